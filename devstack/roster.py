"""Who the workers are: last heard of when, retired or not, and what they should stop."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from math import inf


class Roster:
    """The workers of one endpoint.

    Args:
        silence_s: A worker not heard of for so long counts as lost.
        clock: Seconds, never falling.
    """

    def __init__(self, silence_s: float, clock: Callable[[], float]) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._seen_s: dict[str, float] = {}
        self._retired: set[str] = set()
        self._stops: defaultdict[str, list[str]] = defaultdict(list)

    def hear(self, worker_id: str) -> bool:
        """Note that the worker lives; return whether it is new."""
        is_new = worker_id not in self._seen_s
        self._seen_s[worker_id] = self._clock()
        return is_new

    def seen_s(self, worker_id: str | None) -> float:
        """Return when the worker was last heard of, -inf if never."""
        return self._seen_s.get(worker_id or "", -inf)

    def alive(self) -> set[str]:
        """Return the workers that can take jobs."""
        since_s = self._clock() - self._silence_s
        return {worker for worker, seen_s in self._seen_s.items() if seen_s > since_s} - (
            self._retired
        )

    def retire(self, worker_id: str) -> None:
        """Give the worker no more jobs: it asked to be started afresh."""
        self._retired.add(worker_id)

    def is_retired(self, worker_id: str) -> bool:
        """Whether the worker asked to be started afresh."""
        return worker_id in self._retired

    def send_stop(self, worker_id: str, job_id: str) -> None:
        """Have the worker told to stop the job."""
        self._stops[worker_id].append(job_id)

    def drop_stop(self, worker_id: str, job_id: str) -> None:
        """Forget a stop that was meant for an earlier run of the job on this worker."""
        if job_id in self._stops.get(worker_id, []):
            self._stops[worker_id].remove(job_id)

    def collect_stops(self, worker_id: str) -> list[str]:
        """Return the jobs that the worker should stop, each once."""
        return self._stops.pop(worker_id, [])

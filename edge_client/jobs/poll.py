"""Looks at one job until it ends: `Poller.look` returns the pause before the next look, or the end.

Looks after 1 s at first, then ever more rarely, up to every 10 s; a change of the job's state
starts that anew, and an estimate of the time left, from the growth of its percentage, takes over
as soon as there is one. What RunPod refuses, or does not answer, passes through.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from bucketscribe_contract import JobState, JobStatus, Progress
from bucketscribe_contract.redact import one_line
from edge_client.clock import Clock
from edge_client.errors import THROTTLED, UNHEALTHY

LEAST_SPAN_S = 5.0
LEAST_PERCENT = 2.0
"""Before both have gone by, a rate says nothing."""
ANOTHER_RUN_PERCENT = 10.0
"""RunPod's progress comes out of order at times: only so deep a fall is a job begun anew."""


class Estimate:
    """The remaining time of one job; nothing while it cannot be known."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._percent = 0.0

    def left_s(self, now_s: float, percent: float | None) -> float | None:
        """Take the newest percentage of the whole job; return the seconds left, None if unknown.

        Times are monotonic. A deep fall of the percentage means another run.
        """
        if percent is None:
            return None
        before, self._percent = self._percent, percent
        if self._first is None or percent < before - ANOTHER_RUN_PERCENT:
            self._first = now_s, percent
            return None
        span_s, grown = now_s - self._first[0], percent - self._first[1]
        if span_s < LEAST_SPAN_S or grown < LEAST_PERCENT:
            return None
        return span_s * (100 - percent) / grown


FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
GROWTH = 1.4
JITTER = 0.2
SHARE_OF_WHAT_IS_LEFT = 0.25


@dataclass(frozen=True)
class JobProgress:
    """What there is to see of a running job; ``percent`` is of all of it, ``left_s`` a guess."""

    state: str
    stage: str | None = None
    percent: float | None = None
    left_s: float | None = None
    is_final: bool = False


class View(Protocol):
    """Shows how far a job is."""

    def show(self, progress: JobProgress) -> None:
        """Take the latest state; called after every poll."""

    def note(self, message: str) -> None:
        """Tell the user something that is not progress."""


class NotesView:
    """Hands on what there is to say, and shows no progress."""

    def __init__(self, note: Callable[[str], None]) -> None:
        self.note = note

    def show(self, progress: JobProgress) -> None:
        """Show nothing."""


def log_view(log: logging.Logger, session: object) -> NotesView:
    """Return a view that logs what a reconciler has to say under its session's name, made safe."""
    return NotesView(partial(log.info, "%s: %s", one_line(str(session))))


def progress_of(status: JobStatus) -> JobProgress:
    """Read a status as progress. RunPod carries a running job's progress as its output."""
    if status.status.is_final:
        return JobProgress(status.status.value.lower(), is_final=True)
    state = "queued" if status.status is JobState.IN_QUEUE else "running"
    try:
        progress = Progress.model_validate(status.output)
    except ValueError:
        return JobProgress(state)
    return JobProgress(state, progress.stage.value, progress.percent)


def why_jobs_wait(health: Mapping[str, Any]) -> str | None:
    """Say why jobs wait for a worker; None if workers are at work."""
    workers = health.get("workers")
    counts = workers if isinstance(workers, Mapping) else {}

    def some(*names: str) -> bool:
        return any(counts.get(name) for name in names)

    if unhealthy := counts.get("unhealthy"):
        return f"{unhealthy} of the endpoint's workers unhealthy, {UNHEALTHY}"
    if some("running"):
        return None
    if some("throttled"):
        return THROTTLED
    if some("initializing", "ready", "idle"):
        return "workers are starting"
    return (
        "no worker is there: RunPod lowers max workers after days without a job, or with unhealthy "
        "workers only: raise it in the endpoint's settings"
    )


class PollInterval:
    """Seconds between looks: growing, with jitter so that edge boxes do not look at the same time.

    They grow from ``first_s`` to ``longest_s``, anew whenever the job's state changed.
    """

    def __init__(
        self,
        first_s: float = FIRST_PAUSE_S,
        longest_s: float = LONGEST_PAUSE_S,
        random_unit: Callable[[], float] = random.random,
    ) -> None:
        self._first_s, self._longest_s, self._random_unit = first_s, longest_s, random_unit
        self._pause_s = first_s

    def restart(self) -> None:
        """Look often again: a job that has just left the queue shows how far it is."""
        self._pause_s = self._first_s

    def next_s(self, left_s: float | None = None) -> float:
        """Return the pause before the next look.

        An estimate of what remains of the job makes looks rare before its last quarter.
        """
        pause_s = self._pause_s
        self._pause_s = min(self._longest_s, self._pause_s * GROWTH)
        if left_s is not None:
            pause_s = min(self._longest_s, max(self._first_s, left_s * SHARE_OF_WHAT_IS_LEFT))
        return pause_s * (1 + JITTER * (2 * self._random_unit() - 1))


class Poller:
    """Looks at one job, as often as it pays; knows since when it has waited for a worker.

    ``ask`` is one GET of the job's status; ``view`` shows each answer.
    """

    def __init__(
        self, ask: Callable[[], JobStatus], view: View, clock: Clock, interval: PollInterval
    ) -> None:
        self._ask, self._view, self._clock, self.interval = ask, view, clock, interval
        self._state: JobState | None = None
        self.queued_since_s: float | None = None
        self._estimate = Estimate()

    def look(self) -> JobStatus | float:
        """Look once; return the last status, or the seconds until the next look; errors pass."""
        status = self._ask()
        if status.status is not self._state:
            self._state = status.status
            self.interval.restart()
            is_queued = self._state is JobState.IN_QUEUE
            self.queued_since_s = self._clock.monotonic() if is_queued else None
        seen = progress_of(status)
        left_s = self._estimate.left_s(self._clock.monotonic(), seen.percent)
        self._view.show(replace(seen, left_s=left_s))
        return status if seen.is_final else self.interval.next_s(left_s)

"""RunPod's rules for jobs as a state machine: no I/O, no threads, an injected clock.

    IN_QUEUE ──take──► IN_PROGRESS ──finish──► COMPLETED | FAILED
       ▲  ▲                │  │ └─executionTimeout─► TIMED_OUT ─┐
       │  └─worker silent──┘  └─cancel─► CANCELLED              │
       └──────────────────── retry (FAILED, TIMED_OUT) ─────────┘

A job that outlives its `ttl` is gone, whether it waits or runs; one that ended is gone when
its retention is over. Calls raise `JobNotFound` for both, and `NotRetryable`.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from math import inf
from typing import Any

from contract import JobState
from devstack.events import EventKind, EventLog
from devstack.record import JobRecord, Lapse, Submission
from devstack.roster import Roster
from devstack.rules import QueueRules

_FINAL_EVENTS = {
    JobState.COMPLETED: EventKind.COMPLETED,
    JobState.FAILED: EventKind.FAILED,
    JobState.CANCELLED: EventKind.CANCELLED,
    JobState.TIMED_OUT: EventKind.TIMED_OUT,
}


class JobNotFound(LookupError):
    """No such job: never submitted, expired, purged or forgotten."""


class NotRetryable(ValueError):
    """Only jobs that FAILED or TIMED_OUT can be retried."""


class JobQueue:
    """All jobs of one endpoint, and who works on them.

    Args:
        events: Where everything that happens is written.
        rules: Limits and intervals.
        clock: Seconds, never falling.
    """

    def __init__(
        self,
        events: EventLog,
        rules: QueueRules | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.events = events
        self.rules = rules or QueueRules()
        self._clock = clock
        self._jobs: dict[str, JobRecord] = {}
        self._waiting: deque[str] = deque()
        self._roster = Roster(self.rules.worker_silence_s, clock)
        self._ended: Counter[JobState] = Counter()
        self._requeues = 0
        self._next_due_s = inf

    # The client's side.

    def submit(self, submission: Submission) -> JobRecord:
        """Queue a job and return it."""
        job_id = f"sync-{uuid.uuid4()}" if submission.is_sync else f"{uuid.uuid4()}-u1"
        job = JobRecord(job_id, submission, self._clock())
        self._jobs[job_id] = job
        self._waiting.append(job_id)
        self._watch(job)
        self.events.append(EventKind.SUBMITTED, job_id)
        return job

    def find(self, job_id: str) -> JobRecord:
        """Return the job, or raise `JobNotFound`."""
        self.tick()
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        return self._jobs[job_id]

    def cancel(self, job_id: str) -> JobRecord:
        """Cancel a job that has not ended; its worker is told to stop."""
        job = self.find(job_id)
        if not job.state.is_final:
            self._leave(job)
            self._finish(job, JobState.CANCELLED)
        return job

    def retry(self, job_id: str) -> JobRecord:
        """Queue a failed job again under its id, with a new `ttl`."""
        job = self.find(job_id)
        if job.state not in (JobState.FAILED, JobState.TIMED_OUT):
            raise NotRetryable(f"{job.state.value} jobs cannot be retried")
        job.submitted_s = self._clock()
        self._queue_again(job, EventKind.RETRIED)
        return job

    def purge(self) -> int:
        """Drop every waiting job; return how many. Running jobs go on."""
        self.tick()
        dropped = list(self._waiting)
        for job_id in dropped:
            self._drop(self._jobs[job_id], EventKind.PURGED)
        return len(dropped)

    def health(self) -> dict[str, dict[str, int]]:
        """Return the counts that `/health` shows."""
        self.tick()
        busy = {job.worker_id for job in self._running()}
        alive = self._roster.alive()
        return {
            "jobs": {
                "completed": self._ended[JobState.COMPLETED],
                "failed": self._ended[JobState.FAILED] + self._ended[JobState.TIMED_OUT],
                "inProgress": len(self._running()),
                "inQueue": len(self._waiting),
                "retried": self._requeues,
            },
            "workers": {"idle": len(alive - busy), "running": len(alive & busy)},
        }

    # The worker's side.

    def ping(self, worker_id: str) -> None:
        """Note that the worker lives; a job that it has lost stays lost."""
        self.tick()
        if self._roster.hear(worker_id):
            self.events.append(EventKind.WORKER_JOINED, worker_id=worker_id)

    def take(self, worker_id: str, count: int = 1) -> list[JobRecord]:
        """Hand up to `count` waiting jobs to the worker, oldest first."""
        self.ping(worker_id)
        taken: list[JobRecord] = []
        while self._waiting and len(taken) < count and not self.is_retired(worker_id):
            job = self._jobs[self._waiting.popleft()]
            job.start(worker_id, self._clock())
            self._roster.drop_stop(worker_id, job.job_id)
            self._watch(job)
            self.events.append(EventKind.TAKEN, job.job_id, worker_id)
            taken.append(job)
        return taken

    def progress(self, worker_id: str, job_id: str, value: Any) -> bool:
        """Show `value` as the running job's output; False if it came too late."""
        job = self._held(worker_id, job_id)
        if job is None:
            self.events.append(EventKind.LATE_PROGRESS, job_id, worker_id)
            return False
        job.output = value
        self.events.append(EventKind.PROGRESS, job_id, worker_id)
        return True

    def finish(self, worker_id: str, job_id: str, output: Any = None, error: Any = None) -> bool:
        """End the job: FAILED with an error, else COMPLETED; False if the worker lost it."""
        job = self._held(worker_id, job_id)
        if job is None:
            self.events.append(EventKind.LATE_RESULT, job_id, worker_id)
            return False
        state = JobState.FAILED if error else JobState.COMPLETED
        self._finish(job, state, output, error)
        return True

    def retire(self, worker_id: str) -> None:
        """Give the worker no more jobs: it asked to be started afresh."""
        self._roster.retire(worker_id)
        self.events.append(EventKind.WORKER_REFRESH, worker_id=worker_id)

    def is_retired(self, worker_id: str) -> bool:
        """Whether the worker asked to be started afresh."""
        return self._roster.is_retired(worker_id)

    def collect_stops(self, worker_id: str) -> list[str]:
        """Return the jobs that the worker should stop, each once."""
        self.tick()
        return self._roster.collect_stops(worker_id)

    # Time.

    def tick(self) -> None:
        """Apply what the clock alone decides: every other call starts with it."""
        now_s = self._clock()
        if now_s < self._next_due_s:
            return
        self._next_due_s = inf
        for job in list(self._jobs.values()):
            due_s, lapse = self._due(job)
            if due_s <= now_s:
                self._lapse(job, lapse)
            if job.job_id in self._jobs:
                self._watch(job)

    def _lapse(self, job: JobRecord, lapse: Lapse) -> None:
        match lapse:
            case Lapse.TTL:
                self._drop(job, EventKind.EXPIRED)
            case Lapse.RETENTION:
                self._drop(job, EventKind.FORGOTTEN)
            case Lapse.EXECUTION_TIMEOUT:
                self._leave(job)
                self._finish(job, JobState.TIMED_OUT, error="executionTimeout exceeded")
            case Lapse.WORKER_SILENT:
                self._leave(job)
                self._queue_again(job, EventKind.REQUEUED, first=True)

    def _due(self, job: JobRecord) -> tuple[float, Lapse]:
        return job.due(self.rules, self._roster.seen_s(job.worker_id))

    def _watch(self, job: JobRecord) -> None:
        self._next_due_s = min(self._next_due_s, self._due(job)[0])

    # Moves.

    def _finish(
        self, job: JobRecord, state: JobState, output: Any = None, error: Any = None
    ) -> None:
        job.finish(state, self._clock(), output, error)
        self._ended[state] += 1
        self._watch(job)
        self.events.append(_FINAL_EVENTS[state], job.job_id, job.worker_id)

    def _queue_again(self, job: JobRecord, kind: EventKind, *, first: bool = False) -> None:
        worker_id = job.worker_id
        job.queue_again()
        self._requeues += 1
        self._waiting.appendleft(job.job_id) if first else self._waiting.append(job.job_id)
        self._watch(job)
        self.events.append(kind, job.job_id, worker_id)

    def _drop(self, job: JobRecord, kind: EventKind) -> None:
        self._leave(job)
        del self._jobs[job.job_id]
        self.events.append(kind, job.job_id, job.worker_id)

    def _leave(self, job: JobRecord) -> None:
        """Take the job from where it waits, or tell its worker to stop."""
        if job.state is JobState.IN_QUEUE:
            self._waiting.remove(job.job_id)
        elif job.state is JobState.IN_PROGRESS and job.worker_id is not None:
            self._roster.send_stop(job.worker_id, job.job_id)
            self.events.append(EventKind.STOP_SENT, job.job_id, job.worker_id)

    def _held(self, worker_id: str, job_id: str) -> JobRecord | None:
        """Return the job if this worker runs it now."""
        self.tick()
        job = self._jobs.get(job_id)
        if job is None or job.state is not JobState.IN_PROGRESS:
            return None
        return job if job.worker_id == worker_id else None

    def _running(self) -> list[JobRecord]:
        return [job for job in self._jobs.values() if job.state is JobState.IN_PROGRESS]

"""RunPod's rules for jobs as a state machine: no I/O, no threads, an injected clock.

`_due` and `_time_out` hold what time does to a job; docs.runpod.io (serverless: endpoints, job
states, webhooks) and the SDK's source are where the rules come from.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from pydantic import BaseModel, Field

from bucketscribe_contract import ExecutionPolicy, JobState
from devstack.events import EventKind, EventLog

MB = 1_000_000
FINAL_EVENTS = {state: EventKind(state.value.lower()) for state in JobState if state.is_final}


@dataclass(frozen=True)
class QueueConfig:
    """Limits and intervals of the queue; the defaults are RunPod's where RunPod has one.

    Attributes:
        max_run_bytes: Largest body of a submission (RunPod takes 20 MB of ``/runsync``).
        max_result_bytes: Largest result a worker may post (the SDK warns above 20 MB).
        retention_s: How long a result is kept after the job ended.
        worker_silence_s: A worker that did not ping for so long has lost its jobs.
        take_poll_s: How long ``job-take`` and ``job-stop`` are held open. The SDK gives up
            after 90 s, and a worker told to stop waits for the open one to end.
        sync_wait_s: How long ``/runsync`` and ``/status-sync`` are held open, unless ``?wait=``
            says how many milliseconds.
        max_redispatches: So often a job whose worker was lost is queued again; then it FAILED.
        webhook_interval_s: Time between two tries of a webhook that did not answer 200.
    """

    max_run_bytes: int = 10 * MB
    max_result_bytes: int = 20 * MB
    retention_s: float = 1800.0
    worker_silence_s: float = 10.0
    take_poll_s: float = 5.0
    sync_wait_s: float = 90.0
    max_redispatches: int = 1
    webhook_interval_s: float = 10.0


class Submission(BaseModel):
    """What a client asked for."""

    input: dict[str, Any] = Field(repr=False)
    policy: ExecutionPolicy = ExecutionPolicy()
    webhook: str | None = Field(None, repr=False, pattern="^https?://")


@dataclass
class Job:
    """One job. Times are seconds of the queue's clock.

        IN_QUEUE ──take──► IN_PROGRESS ──finish──► COMPLETED | FAILED
         │    ▲                │  │ └─executionTimeout─► FAILED
         │    └─worker lost────┘  └─cancel─► CANCELLED
         └─ttl─► TIMED_OUT

    A worker is lost once; the second time the job FAILED. A running job is gone once its `ttl` has
    passed, an ended one after its retention.

    Attributes:
        output: Progress while the job runs, its result afterwards.
        retries: How often the job went back to the queue because its worker was lost.
    """

    job_id: str
    submission: Submission = field(repr=False)
    submitted_s: float
    state: JobState = JobState.IN_QUEUE
    started_s: float | None = None
    finished_s: float | None = None
    worker_id: str | None = None
    output: Any = field(default=None, repr=False)
    error: str | None = field(default=None, repr=False)
    retries: int = 0

    def to_wire(self) -> dict[str, Any]:
        """Return what `/status` answers; fields without a value are left out."""
        fields = {
            "id": self.job_id,
            "status": self.state.value,
            "delayTime": _elapsed_ms(self.submitted_s, self.started_s),
            "executionTime": _elapsed_ms(self.started_s, self.finished_s),
            "workerId": self.worker_id,
            "retries": self.retries or None,
            "output": self.output,
            "error": self.error,
        }
        return {key: value for key, value in fields.items() if value is not None}


def _elapsed_ms(from_s: float | None, to_s: float | None) -> int | None:
    return None if from_s is None or to_s is None else round((to_s - from_s) * 1000)


def _place(worker_id: str) -> str:
    """Return what of a worker's id stays when it is restarted: `worker-1` of `worker-1-2`."""
    return worker_id.rpartition("-")[0] or worker_id


class JobNotFound(LookupError):
    """No such job: never submitted, expired or forgotten."""


class JobQueue:
    """All jobs of one endpoint, and their workers."""

    def __init__(
        self, config: QueueConfig | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.events = EventLog()
        self.config = config or QueueConfig()
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._seen_s: dict[str, float] = {}  # by worker id: when it was last heard of
        self._retired: set[str] = set()
        self._unhealthy: set[str] = set()
        self._stops: defaultdict[str, list[str]] = defaultdict(list)  # job ids by worker id
        self._ended: Counter[JobState] = Counter()
        self._requeues = 0
        self._next_due_s = inf

    def submit(self, submission: Submission) -> Job:
        """Queue a job and return it."""
        job = Job(f"{uuid.uuid4()}-u1", submission, self._clock())
        self._jobs[job.job_id] = job
        self._waiting.append(job.job_id)
        self._watch(job)
        self.events.append(EventKind.SUBMITTED, job.job_id)
        return job

    def find(self, job_id: str) -> Job:
        """Return the job, or raise `JobNotFound`."""
        self.tick()
        if job_id not in self._jobs:
            raise JobNotFound(job_id)
        return self._jobs[job_id]

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that has not ended; its worker is told to stop."""
        job = self.find(job_id)
        if not job.state.is_final:
            self._leave(job)
            self._finish(job, JobState.CANCELLED)
        return job

    def health(self) -> dict[str, dict[str, int]]:
        """Return the counts that `/health` shows."""
        self.tick()
        running = [job for job in self._jobs.values() if job.state is JobState.IN_PROGRESS]
        busy = {job.worker_id for job in running}
        since_s = self._clock() - self.config.worker_silence_s
        alive = {worker for worker, seen_s in self._seen_s.items() if seen_s > since_s}
        alive = {w for w in alive - self._retired if _place(w) not in self._unhealthy}
        return {
            "jobs": {
                "completed": self._ended[JobState.COMPLETED],
                "failed": self._ended[JobState.FAILED] + self._ended[JobState.TIMED_OUT],
                "inProgress": len(running),
                "inQueue": len(self._waiting),
                "retried": self._requeues,
            },
            "workers": {
                "initializing": 0,
                "throttled": 0,
                "unhealthy": len(self._unhealthy),
                "idle": len(alive - busy),
                "ready": len(alive - busy),
                "running": len(alive & busy),
            },
        }

    def ping(self, worker_id: str, *, is_healthy: bool = True) -> None:
        """Note that the worker is alive; a job that was taken from it is not given back.

        One that is not stays so, restarted or not, until it takes a job.
        """
        self.tick()
        if not is_healthy:
            self._unhealthy.add(_place(worker_id))
        is_new = worker_id not in self._seen_s
        self._seen_s[worker_id] = self._clock()
        if is_new:
            self.events.append(EventKind.WORKER_JOINED, worker_id=worker_id)

    def take(self, worker_id: str, count: int = 1) -> list[Job]:
        """Hand up to `count` waiting jobs to the worker, oldest first."""
        self.ping(worker_id)
        self._unhealthy.discard(_place(worker_id))
        taken: list[Job] = []
        while self._waiting and len(taken) < count and not self.is_retired(worker_id):
            job = self._jobs[self._waiting.popleft()]
            job.state, job.worker_id = JobState.IN_PROGRESS, worker_id
            job.started_s = self._clock()
            if job.job_id in self._stops[worker_id]:  # meant for an earlier run
                self._stops[worker_id].remove(job.job_id)
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
        """Give the worker no more jobs: it asked to be restarted."""
        self._retired.add(worker_id)
        self.events.append(EventKind.WORKER_REFRESH, worker_id=worker_id)

    def is_retired(self, worker_id: str) -> bool:
        """Whether the worker asked to be restarted."""
        return worker_id in self._retired

    def collect_stops(self, worker_id: str) -> list[str]:
        """Return the jobs that the worker should stop, each once."""
        self.tick()
        return self._stops.pop(worker_id, [])

    def tick(self) -> None:
        """Apply the timeouts that are due; every other call starts with this."""
        now_s = self._clock()
        if now_s < self._next_due_s:
            return
        self._next_due_s = inf
        for job in list(self._jobs.values()):
            due_s, kind = self._due(job)
            if due_s <= now_s:
                self._time_out(job, kind)
            if job.job_id in self._jobs:
                self._watch(job)

    def _time_out(self, job: Job, kind: EventKind) -> None:
        self._leave(job)
        if kind is EventKind.EXPIRED and job.state is JobState.IN_QUEUE:
            self._finish(job, JobState.TIMED_OUT)
        elif kind in (EventKind.EXPIRED, EventKind.FORGOTTEN):
            del self._jobs[job.job_id]
            self.events.append(kind, job.job_id, job.worker_id)
        elif kind is EventKind.TIMED_OUT:
            self._finish(job, JobState.FAILED, error="executionTimeout exceeded")
        elif job.retries >= self.config.max_redispatches:
            text = f"job timed out after {job.retries} retries"
            self._finish(job, JobState.FAILED, error=text)
        else:
            self._queue_again(job)

    def _due(self, job: Job) -> tuple[float, EventKind]:
        """Return when time next changes the job, and what happens then."""
        if job.finished_s is not None:
            return job.finished_s + self.config.retention_s, EventKind.FORGOTTEN
        policy = job.submission.policy
        times_s = {EventKind.EXPIRED: job.submitted_s + policy.ttl_ms / 1000}
        if job.started_s is not None:
            times_s[EventKind.TIMED_OUT] = job.started_s + policy.execution_timeout_ms / 1000
            heard_s = max(self._seen_s.get(job.worker_id or "", -inf), job.started_s)
            times_s[EventKind.REQUEUED] = heard_s + self.config.worker_silence_s
        first = min(times_s, key=lambda kind: times_s[kind])
        return times_s[first], first

    def _watch(self, job: Job) -> None:
        self._next_due_s = min(self._next_due_s, self._due(job)[0])

    def _finish(self, job: Job, state: JobState, output: Any = None, error: Any = None) -> None:
        job.state, job.finished_s = state, self._clock()
        job.output = output  # clients expect an error to be text
        job.error = error if error is None or isinstance(error, str) else json.dumps(error)
        self._ended[state] += 1
        self._watch(job)
        self.events.append(FINAL_EVENTS[state], job.job_id, job.worker_id)

    def _queue_again(self, job: Job) -> None:
        """Put the job in front for another run; its `ttl` keeps running."""
        worker_id = job.worker_id
        job.state = JobState.IN_QUEUE
        job.worker_id = job.started_s = job.output = None
        job.retries += 1
        self._requeues += 1
        self._waiting.appendleft(job.job_id)
        self._watch(job)
        self.events.append(EventKind.REQUEUED, job.job_id, worker_id)

    def _leave(self, job: Job) -> None:
        """Take the job from where it waits, or tell its worker to stop."""
        if job.state is JobState.IN_QUEUE:
            self._waiting.remove(job.job_id)
        elif job.state is JobState.IN_PROGRESS and job.worker_id is not None:
            self._stops[job.worker_id].append(job.job_id)
            self.events.append(EventKind.STOP_SENT, job.job_id, job.worker_id)

    def _held(self, worker_id: str, job_id: str) -> Job | None:
        """Return the job if this worker runs it now."""
        self.tick()
        job = self._jobs.get(job_id)
        if job and job.state is JobState.IN_PROGRESS and job.worker_id == worker_id:
            return job
        return None

"""What the queue knows about one job, when it is due, and how `/status` shows it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from contract import ExecutionPolicy, JobState
from devstack.rules import QueueRules


class Lapse(Enum):
    """Why time alone changes a job."""

    TTL = auto()
    EXECUTION_TIMEOUT = auto()
    WORKER_SILENT = auto()
    RETENTION = auto()


@dataclass(frozen=True)
class Submission:
    """What a client asked for."""

    input: dict[str, Any] = field(repr=False)
    policy: ExecutionPolicy = field(default_factory=ExecutionPolicy)
    webhook: str | None = field(default=None, repr=False)
    is_sync: bool = False


@dataclass
class JobRecord:
    """One job. Times are seconds of the queue's clock.

    Attributes:
        output: Progress while the job runs, its result afterwards.
        retries: How often the job went back to the queue.
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

    def start(self, worker_id: str, now_s: float) -> None:
        """Hand the job to a worker."""
        self.state = JobState.IN_PROGRESS
        self.worker_id = worker_id
        self.started_s = now_s

    def queue_again(self) -> None:
        """Forget the run so far; the submission's clock goes on."""
        self.state = JobState.IN_QUEUE
        self.worker_id = self.started_s = self.finished_s = None
        self.output = self.error = None
        self.retries += 1

    def finish(self, state: JobState, now_s: float, output: Any, error: Any) -> None:
        """End the job; an error that is no string becomes JSON, as clients expect text."""
        self.state = state
        self.finished_s = now_s
        self.output = output
        self.error = error if error is None or isinstance(error, str) else json.dumps(error)

    def due(self, rules: QueueRules, worker_seen_s: float) -> tuple[float, Lapse]:
        """Return when time next changes the job, and how.

        Args:
            rules: The queue's limits.
            worker_seen_s: When the job's worker was last heard of.
        """
        if self.finished_s is not None:
            is_sync = self.submission.is_sync
            kept_s = rules.sync_retention_s if is_sync else rules.retention_s
            return self.finished_s + kept_s, Lapse.RETENTION
        policy = self.submission.policy
        ttl = (self.submitted_s + policy.ttl_ms / 1000, Lapse.TTL)
        if self.started_s is None:
            return ttl
        timeout_s = self.started_s + policy.execution_timeout_ms / 1000
        silent_s = max(worker_seen_s, self.started_s) + rules.worker_silence_s
        candidates = [
            ttl,
            (timeout_s, Lapse.EXECUTION_TIMEOUT),
            (silent_s, Lapse.WORKER_SILENT),
        ]
        return min(candidates, key=lambda candidate: candidate[0])

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
    if from_s is None or to_s is None:
        return None
    return round((to_s - from_s) * 1000)

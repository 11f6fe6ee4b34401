"""RunPod's queue as both sides see it: job states, progress, execution policy, request, status.

Names and limits are RunPod's (docs.runpod.io, serverless/endpoints); times are milliseconds.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, model_validator

from bucketscribe_contract.failures import RequestModel, Stage, WireModel
from bucketscribe_contract.job_input import JobInput


class Progress(WireModel):
    """Where a running job is: RunPod's progress, and the file behind ``progress_url``."""

    stage: Stage
    percent: float = Field(ge=0, le=100, description="Of the whole job, never falling.")
    updated_at: datetime = Field(description="UTC.")


MAX_POLICY_MS = 604_800_000
"""Seven days."""


class JobState(StrEnum):
    """A job's state on RunPod."""

    IN_QUEUE = "IN_QUEUE"
    IN_PROGRESS = "IN_PROGRESS"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self not in (JobState.IN_QUEUE, JobState.IN_PROGRESS, JobState.RUNNING)


class ExecutionPolicy(RequestModel):
    """How long RunPod lets a job run, and live.

    ``ttl`` counts from submission and kills running jobs too, so it covers queue and run.
    """

    execution_timeout_ms: int = Field(600_000, alias="executionTimeout", ge=5_000, le=MAX_POLICY_MS)
    ttl_ms: int = Field(86_400_000, alias="ttl", ge=10_000, le=MAX_POLICY_MS)
    low_priority: bool = Field(False, alias="lowPriority")

    @model_validator(mode="after")
    def _ttl_covers_the_run(self) -> Self:
        if self.ttl_ms < self.execution_timeout_ms:
            raise ValueError("ttl must not be shorter than executionTimeout: it covers the run too")
        return self


class RunRequest(RequestModel):
    """The body of ``POST /run``."""

    input: JobInput
    policy: ExecutionPolicy | None = None
    webhook: str | None = Field(None, description="RunPod POSTs the finished job here.", repr=False)

    def to_wire(self) -> dict[str, Any]:
        """Return what is sent, URLs revealed."""
        body: dict[str, Any] = {"input": self.input.to_wire()}
        if self.policy is not None:
            body["policy"] = self.policy.model_dump(mode="json")
        if self.webhook is not None:
            body["webhook"] = self.webhook
        return body


class JobStatus(WireModel):
    """What ``/run`` and ``/status`` answer."""

    id: str
    status: JobState
    output: Any = Field(None, repr=False)
    error: str | None = None
    execution_time_ms: int | None = Field(None, alias="executionTime")

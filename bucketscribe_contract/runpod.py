"""RunPod's queue as both sides see it: job states, progress, execution policy, request, status.

Names and limits are RunPod's (docs.runpod.io, serverless/endpoints); times are milliseconds.
"""

from __future__ import annotations

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import (
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

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
        rest = self.model_dump(mode="json", exclude={"input"}, exclude_none=True)
        return {"input": self.input.to_wire(), **rest}


class JobStatus(WireModel):
    """What ``/run`` and ``/status`` answer."""

    id: str = Field(min_length=1)
    status: JobState
    output: Any = Field(None, repr=False)
    error: str | None = None
    execution_time_ms: int | None = Field(None, alias="executionTime", ge=0)

    @field_validator("error", mode="before")
    @classmethod
    def _error_is_text(cls, error: Any) -> Any:
        """Take an error that is an object as its JSON: a job that failed stays failed."""
        return error if error is None or isinstance(error, str) else json.dumps(error)

    @field_validator("execution_time_ms", mode="wrap")
    @classmethod
    def _only_informs(cls, value: Any, read: ValidatorFunctionWrapHandler) -> Any:
        """Take what only informs as unknown if it cannot be read."""
        try:
            return read(value)
        except ValidationError:
            return None

    @property
    def request_id(self) -> str | None:
        """Which submission the worker's answer is of, if it says so."""
        return self.output.get("request_id") if isinstance(self.output, dict) else None

    @property
    def error_text(self) -> str:
        """What went wrong: RunPod carries it beside the output, or in it."""
        told = self.output.get("error") if isinstance(self.output, dict) else None
        text = told if self.error is None else self.error
        return text if isinstance(text, str) else ""

"""Validate: what the queue gave, into the contract's job input.

Takes the raw ``input``; returns a `JobInput` whose URLs this worker's policy allows. Imports
nothing heavy: a job that fails here costs no model.

Raises `WorkerError`: ``INVALID_INPUT`` naming each field, ``URL_NOT_ALLOWED``.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from contract import FailureCode, JobInput, Stage
from worker.errors import WorkerError
from worker.urls import UrlPolicy


def validate(raw: Any, policy: UrlPolicy) -> JobInput:
    """Return the job input.

    Args:
        raw: What the queue gave as ``input``.
        policy: Which URLs are allowed.
    """
    try:
        job = JobInput.model_validate(raw)
    except ValidationError as exc:
        raise WorkerError(FailureCode.INVALID_INPUT, _explain(exc), Stage.VALIDATE) from None
    policy.check_job(job)
    return job


def _explain(error: ValidationError) -> str:
    """Return every complaint in one line, fields named, values left out."""
    said = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        field_name = str(item["loc"][0]) if item["loc"] else ""
        reason = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            reason = "unknown field"
        if "is-instance" not in str(item["loc"]):
            said.append(f"{field_name}: {reason}" if field_name else reason)
    return "; ".join(said)

"""What a job's last status means. Pure: S3 is looked at by `edge_client.settle`.

RunPod's answer alone never proves success: results are forgotten after 30 minutes, and a result
that RunPod lost shows as COMPLETED without output (runpod-python issue 309).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from contract import JobFailure, JobState, JobStatus, JobSummary, UploadFailed
from edge_client.redaction import one_line


class Result(StrEnum):
    """How a session's job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"


class Ending(StrEnum):
    """How a job ended, where no worker said why. Claims keep these names."""

    UNDELIVERED = "undelivered"
    DAMAGED = "damaged"
    UNSTORED = "unstored"
    NO_OUTPUT = "no_output"
    FORGOTTEN = "forgotten"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class Unproven:
    """The status decides nothing: ``result`` holds unless S3 has the job's transcript."""

    result: Result
    ending: Ending
    message: str


Verdict = JobSummary | UploadFailed | JobFailure | Unproven


def judge(status: JobStatus | None) -> Verdict:
    """Read a final status.

    Args:
        status: None if RunPod has no such job any more. One that is not final is taken for the
            last there will be: the claim says that its job's time is over.
    """
    if status is None:
        text = "RunPod has forgotten the job and S3 has no transcript of it"
        return Unproven(Result.LOST, Ending.FORGOTTEN, text)
    if status.status is JobState.COMPLETED:
        return _completed(status.output)
    if status.status is JobState.FAILED:
        return _failed(status)
    if status.status is JobState.CANCELLED:
        return Unproven(Result.CANCELLED, Ending.CANCELLED, "the job was cancelled")
    if status.status is JobState.TIMED_OUT:
        text = "RunPod ended the job at its executionTimeout, before its transcript"
        return Unproven(Result.LOST, Ending.TIMED_OUT, text)
    text = (
        f"the job's time is over, though RunPod calls it {status.status.lower()}, and S3 has no "
        "transcript: `edge-client doctor` tells whether workers come up; then submit again"
    )
    return Unproven(Result.LOST, Ending.EXPIRED, text)


def _completed(output: Any) -> Verdict:
    for model in (JobSummary, UploadFailed):
        try:
            return model.model_validate(output, extra="ignore")  # a newer worker says more
        except ValidationError:
            continue
    what = "without a result" if output is None else "with a result that is no summary"
    text = f"RunPod calls the job completed {what}, S3 has no transcript"
    return Unproven(Result.LOST, Ending.NO_OUTPUT, text)


def _failed(status: JobStatus) -> Verdict:
    text = status.error
    if text is None and isinstance(status.output, dict):
        text = status.output.get("error")
    try:
        return JobFailure.model_validate_json(text or "")
    except (ValidationError, TypeError):
        return Unproven(Result.FAILED, Ending.CRASHED, f"the worker failed: {_readable(text)}")


def _readable(text: Any) -> str:
    """Return RunPod's or a foreign worker's error text as one line, without a traceback."""
    if not isinstance(text, str) or not text.strip():
        return "RunPod gives no reason; see the endpoint's logs in its console"
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = None
    if isinstance(parsed, dict) and "error_message" in parsed:
        text = str(parsed["error_message"])
    return one_line(text)

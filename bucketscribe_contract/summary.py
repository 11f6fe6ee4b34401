"""What a worker answers when the transcript goes to S3.

The transcript is in S3 and RunPod carries only a `JobSummary`, or, when the PUT failed for
good after the GPU work was done, an `UploadFailed` with the transcript inside.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from bucketscribe_contract.failures import JobFailure, Stage, WarningText, WireModel

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Seconds = Annotated[float, Field(ge=0)]
AUDIO_ETAG_PATTERN = r"^[\x21-\x7e]{1,64}$"
AudioETag = Annotated[str, Field(pattern=AUDIO_ETAG_PATTERN)]
"""S3's name for one version of the recording, quotes included, as its ``ETag`` header has it."""


class StoredResult(WireModel):
    """The object that was PUT."""

    bytes: int = Field(ge=0)
    sha256: Sha256


class JobSummary(WireModel):
    """A finished job, in under 1,024 bytes."""

    status: Literal["ok"] = "ok"
    message: str = "Transcription uploaded to S3"
    segments_count: int = Field(ge=0)
    speakers_count: int = Field(ge=0)
    duration_seconds: Seconds
    processing_time_seconds: Seconds
    language: str | None = None
    warnings: tuple[WarningText, ...] = ()
    result: StoredResult
    timings: dict[Stage, Seconds] = Field(description="Seconds spent in each stage.")
    request_id: str | None = None
    audio_etag: AudioETag | None = Field(
        None, description="Of the recording that was read; absent where S3 gave none."
    )


class TranscriptForm(StrEnum):
    """How much of the transcript an output holds: the largest form that fits is sent."""

    COMPLETE = "complete"
    WITHOUT_SCORES = "without_scores"
    WITHOUT_WORDS = "without_words"


class UploadFailed(WireModel):
    """The GPU work is done, S3 did not take it: the edge writes it with its own keys.

    With ``RESULT_EXISTS`` S3 has one: it is this one if its SHA-256 is ``sent_sha256``.
    The reason travels as ``failure``: RunPod takes a key named ``error`` out of what a handler
    returns and marks the job FAILED (runpod 1.12.0, ``rp_job.run_job``).
    """

    status: Literal["upload_failed"] = "upload_failed"
    failure: JobFailure
    transcript_gzip_base64: str = Field(repr=False)
    form: TranscriptForm = TranscriptForm.COMPLETE
    result: StoredResult = Field(description="Of the transcript before compression.")
    sent_sha256: Sha256 | None = Field(None, description="Of the whole transcript, as it was PUT.")
    request_id: str | None = None

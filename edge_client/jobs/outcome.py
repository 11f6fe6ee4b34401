"""How a job ended: its last status, checked against S3, as an `Outcome`.

S3 decides, not RunPod. A transcript that the worker could not PUT travels in its answer;
`store_rescued_transcript` writes it with the edge's own keys. S3's errors pass through.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Self

from bucketscribe_contract import JobFailure, JobStatus, JobSummary, TranscriptForm, UploadFailed
from edge_client.errors import TranscriptInvalid
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim
from edge_client.jobs.retry_policy import (
    ClassifiedStatus,
    Ending,
    NextStep,
    Result,
    classify_status,
)
from edge_client.jobs.transcript import Delivered
from edge_client.services.s3 import Bucket
from edge_client.session import Session

_SHORTENED = {
    TranscriptForm.COMPLETE: None,
    TranscriptForm.WITHOUT_SCORES: "the transcript was too large to travel whole: its words have "
    "no scores",
    TranscriptForm.WITHOUT_WORDS: "the transcript was too large to travel whole: it has segments, "
    "but no words",
}


@dataclass(frozen=True)
class Outcome:
    """How a job ended, proven by S3.

    Attributes:
        delivered: With ``done``.
        failure: The worker's own words, where it gave some.
        message: One line for people.
        ending: Why there is no transcript, where the worker did not say.
        answer: With `Ending.UNDELIVERED`: the transcript, which S3 does not have yet.
        warning: What the delivered transcript lacks.
    """

    result: Result
    message: str
    delivered: Delivered | None = None
    failure: JobFailure | None = None
    ending: Ending | None = None
    answer: UploadFailed | None = field(default=None, repr=False)
    warning: str | None = None

    @classmethod
    def stored(cls, delivered: Delivered) -> Self:
        """Return the end of a job whose transcript is in S3."""
        return cls(Result.DONE, "the transcript is in S3", delivered)

    @property
    def cause(self) -> JobFailure | Ending | None:
        """What the retry policy is asked about; None if there is nothing to recover."""
        return self.ending or self.failure

    @property
    def text(self) -> str:
        """The message, with the worker's code where it gave one."""
        cause = self.cause
        return f"{cause.code}: {self.message}" if isinstance(cause, JobFailure) else self.message

    def with_expiry(self, claim: Claim, now: datetime) -> Outcome:
        """Tell a job that RunPod forgot too early from one whose ttl is over."""
        if self.ending is not Ending.FORGOTTEN or now < claim.expires_at:
            return self
        refused = "no job is in flight: RunPod refused the last submission; submit again"
        over = (
            f"the job expired at {claim.expires_at:%Y-%m-%d %H:%M} UTC and S3 has no transcript: "
            "`edge-client doctor` tells whether workers come up; then submit again"
        )
        return replace(self, ending=Ending.EXPIRED, message=refused if claim.was_refused else over)

    def with_count(self, step: NextStep, submissions: int) -> Outcome:
        """Say how often it was tried, where that is why nothing more is done."""
        if not step.used_up or submissions < 2:
            return self
        return replace(self, message=f"{self.message} (after {submissions} submissions)")

    def as_reported(self, claim: Claim) -> Outcome:
        """Repeat what was reported when the claim was closed: RunPod forgets the reason."""
        if claim.ended is None or self.ending not in (Ending.FORGOTTEN, Ending.EXPIRED):
            return self
        return replace(self, result=Result.FAILED, message=claim.ended)


def resolve_outcome(
    bucket: Bucket, session: Session, claim: Claim, status: JobStatus | None
) -> Outcome:
    """Decide how a job ended. Stores nothing: see `store_rescued_transcript`.

    S3 goes first: RunPod may have lost a result, run a job twice, or take a stored transcript
    for one that was not (an answer to the PUT that got lost). The claim's ``request_id`` tells
    the job's transcript from others; ``status`` is None if RunPod has forgotten the job.
    """
    classified = classify_status(status)
    if isinstance(classified, JobSummary):
        return _confirm(bucket, session, classified)
    found = transcripts.find_of_job(bucket, session, claim)
    if found is not None and not _is_contradicted(bucket, session, classified):
        return Outcome.stored(found)
    if isinstance(classified, JobFailure):
        return Outcome(Result.FAILED, classified.message, failure=classified)
    if isinstance(classified, UploadFailed):
        return Outcome(
            Result.LOST,
            f"the worker could not store the transcript: {classified.failure.message}",
            ending=Ending.UNDELIVERED,
            answer=classified,
        )
    return Outcome(classified.result, classified.message, ending=classified.ending)


def _is_contradicted(bucket: Bucket, session: Session, classified: ClassifiedStatus) -> bool:
    """Whether S3 holds other bytes than the whole transcript that the answer brings.

    A shortened form proves nothing about the document in S3, which may be the whole one.
    """
    if not isinstance(classified, UploadFailed) or classified.form is not TranscriptForm.COMPLETE:
        return False
    stored = bucket.read(session.result_key)
    return stored is None or hashlib.sha256(stored[0]).hexdigest() != classified.result.sha256


def _confirm(bucket: Bucket, session: Session, summary: JobSummary) -> Outcome:
    stored = bucket.head(session.result_key)
    if stored is not None and stored.size_bytes == summary.result.bytes:
        return Outcome(Result.DONE, summary.message, transcripts.of_summary(summary))
    there = "nothing" if stored is None else f"{stored.size_bytes} bytes"
    return Outcome(
        Result.LOST,
        f"the worker stored {summary.result.bytes} bytes, S3 has {there} at "
        f"{session.result_key}: submit again",
        ending=Ending.UNSTORED,
    )


def store_rescued_transcript(bucket: Bucket, session: Session, answer: UploadFailed) -> Outcome:
    """Store the transcript inside a worker's answer, with the edge's own keys."""
    try:
        body = unpack(answer)
        doc = transcripts.parse(body)
    except TranscriptInvalid as exc:
        message = f"{answer.failure.message}; {exc}"
        return Outcome(Result.FAILED, message, failure=answer.failure, ending=Ending.DAMAGED)
    bucket.write(session.result_key, body)
    return Outcome(
        Result.DONE,
        "the worker could not reach S3; the edge stored the transcript",
        doc.delivered(len(body)),
        warning=_SHORTENED[answer.form],
    )


def unpack(answer: UploadFailed) -> bytes:
    """Return the transcript inside a worker's answer.

    Raises:
        TranscriptInvalid: It is damaged: not gzip, or not what its checksum says.
    """
    try:
        packed = base64.b64decode(answer.transcript_gzip_base64, validate=True)
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            body = file.read(answer.result.bytes + 1)  # never more than was promised
    except (ValueError, OSError, EOFError, zlib.error) as exc:
        raise TranscriptInvalid("the transcript in the job's output is damaged") from exc
    if hashlib.sha256(body).hexdigest() != answer.result.sha256:
        raise TranscriptInvalid("the transcript in the job's output fails its checksum")
    return body

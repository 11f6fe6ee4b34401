"""How a job ended: its last status, checked against S3, as an `Outcome`.

S3 decides, not RunPod, which forgets results after 30 minutes, and shows a lost one as COMPLETED
without output (runpod-python #309). A transcript that the worker could not PUT travels in its
answer; `store_rescued_transcript` writes it with the edge's own keys. S3's errors pass through.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Self

from pydantic import ValidationError

from bucketscribe_contract import (
    JobFailure,
    JobState,
    JobStatus,
    JobSummary,
    TranscriptForm,
    UploadFailed,
)
from bucketscribe_contract.redact import one_line
from edge_client.errors import PreconditionFailed, TranscriptInvalid, Unreachable
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import DONE, Claim
from edge_client.jobs.retry_policy import Cause, Ending, Result, cause_name
from edge_client.jobs.transcript import Delivered, Match, StoredTranscript, match
from edge_client.services import s3
from edge_client.services.s3 import Bucket, ObjectInfo
from edge_client.session import Session

_TOO_LARGE = "the transcript was too large to travel whole: "
_SHORTENED = {
    TranscriptForm.COMPLETE: None,
    TranscriptForm.WITHOUT_SCORES: _TOO_LARGE + "its words have no scores",
    TranscriptForm.WITHOUT_WORDS: _TOO_LARGE + "it has segments, but no words",
}


@dataclass(frozen=True)
class Rescue:
    """A transcript that came in a job's output, and what it is stored in place of, by ETag."""

    body: bytes
    delivered: Delivered
    form: TranscriptForm
    over: str | None


@dataclass(frozen=True)
class Outcome:
    """How a job ended, proven by S3.

    Attributes:
        reason: Why there is no transcript: the worker's own words, where it gave some.
        transcript: With ``done``.
        rescue: With `Ending.UNDELIVERED`: the transcript, which S3 does not have yet.
        warning: What the transcript lacks.
        replaced: ETag of what S3 has as the transcript, which proves nothing about the job.
    """

    result: Result
    message: str
    reason: Cause | None = None
    transcript: Delivered | None = None
    rescue: Rescue | None = field(default=None, repr=False)
    warning: str | None = None
    replaced: str | None = None

    @classmethod
    def stored(cls, delivered: Delivered) -> Self:
        """Return the end of a job whose transcript is in S3."""
        return cls(Result.DONE, "the transcript is in S3", transcript=delivered)

    @property
    def code(self) -> str | None:
        """The reason's name, as claims and reports keep it."""
        return None if self.reason is None else cause_name(self.reason)

    @property
    def failure(self) -> JobFailure | None:
        """What the worker said, where it did."""
        return self.reason if isinstance(self.reason, JobFailure) else None

    @property
    def text(self) -> str:
        """The message, with the worker's code where it gave one."""
        return f"{self.code}: {self.message}" if self.failure else self.message

    def with_expiry(self, claim: Claim, now: datetime) -> Outcome:
        """Tell a job that RunPod forgot too early from one whose ttl is over."""
        if self.reason is not Ending.FORGOTTEN or now < claim.expires_at:
            return self
        refused = "no job is in flight: RunPod refused the last submission; submit again"
        over = (
            f"the job expired at {claim.expires_at:%Y-%m-%d %H:%M} UTC and S3 has no transcript: "
            "`edge-client doctor` tells whether workers come up; then submit again"
        )
        return replace(self, reason=Ending.EXPIRED, message=refused if claim.was_refused else over)

    def as_reported(self, claim: Claim) -> Outcome:
        """Repeat what was reported when the claim was closed: RunPod forgets the reason."""
        if claim.ended is None or self.reason not in (Ending.FORGOTTEN, Ending.EXPIRED):
            return self
        if claim.ended == DONE:
            return replace(self, message="the transcript that there was is gone: submit again")
        return replace(self, result=Result.FAILED, message=claim.ended)


ClassifiedStatus = JobSummary | UploadFailed | JobFailure | Outcome

_THEN = "`edge-client doctor` tells whether workers come up; then submit again"
_AT_LIMIT = "RunPod ended the job at its executionTimeout, before its transcript"
_UNTAKEN = f"the job expired in RunPod's queue before a worker took it: {_THEN}"
_GONE = "RunPod has forgotten the job and S3 has no transcript of it"
_UNREAD = "RunPod calls the job completed without a result that can be read, S3 has no transcript"
_WORKERS = "RunPod lost two workers, one after the other, with the job: read the endpoint's log"
_OVER = "the job's time is over, though RunPod calls it {state}, and S3 has no transcript: "
_TIMED_OUT = Outcome(Result.LOST, _AT_LIMIT, Ending.TIMED_OUT)
_UNENDED = Outcome(Result.LOST, _OVER + _THEN, Ending.EXPIRED)
END_TABLE: tuple[tuple[JobState | None, str, bool | None, Outcome], ...] = (
    (None, "", None, Outcome(Result.LOST, _GONE, Ending.FORGOTTEN)),
    (JobState.COMPLETED, "", None, Outcome(Result.LOST, _UNREAD, Ending.NO_OUTPUT)),
    (
        JobState.CANCELLED,
        "",
        None,
        Outcome(Result.CANCELLED, "the job was cancelled", Ending.CANCELLED),
    ),
    (JobState.FAILED, "executionTimeout exceeded", None, _TIMED_OUT),
    (
        JobState.FAILED,
        r"job timed out after \d+ retr",
        None,
        Outcome(Result.FAILED, _WORKERS, Ending.CRASHED),
    ),
    (
        JobState.FAILED,
        "",
        None,
        Outcome(Result.FAILED, "the worker failed: {error}", Ending.CRASHED),
    ),
    (JobState.TIMED_OUT, "executionTimeout exceeded", None, _TIMED_OUT),
    (JobState.TIMED_OUT, "", True, _TIMED_OUT),
    (JobState.TIMED_OUT, "", False, Outcome(Result.LOST, _UNTAKEN, Ending.EXPIRED)),
)
"""What a last status means where the worker did not say: RunPod's state (None: no such job), how
its error begins, whether ``executionTime`` says that it ran. The first row that fits counts."""


def classify_status(status: JobStatus | None) -> ClassifiedStatus:
    """Read the last status, None if RunPod has no such job any more.

    One that is not final is taken for the last there will be: the claim says that its job's time
    is over.
    """
    text = status.error_text if status is not None else ""
    told = _told_by_worker(status, text)
    if told is not None:
        return told
    state = status and status.status
    has_run = bool(status and status.execution_time_ms)
    fitting = (
        end
        for of, begins, ran, end in END_TABLE
        if of is state and ran in (None, has_run) and re.match(begins, text, re.IGNORECASE)
    )
    end = next(fitting, _UNENDED)
    message = end.message.format(state=str(state).lower(), error=_readable(text))
    return replace(end, message=message)


def _told_by_worker(status: JobStatus | None, text: str) -> ClassifiedStatus | None:
    if status is not None and status.status is JobState.COMPLETED:
        for model in (JobSummary, UploadFailed):
            with suppress(ValidationError):
                return model.model_validate(status.output)
    if status is not None and status.status is JobState.FAILED:
        with suppress(ValidationError):
            return JobFailure.model_validate_json(text)
    return None


def _readable(text: str) -> str:
    """Return RunPod's or a foreign worker's error text as one line, without a traceback."""
    if not text.strip():
        return "RunPod gives no reason; see the endpoint's logs in its console"
    with suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["error_message"])
    return one_line(text)


def find_done(found: Match, stored: StoredTranscript | None) -> Outcome | None:
    """Return the end of a session that needs no job; None if it needs one, or has one."""
    if stored is None or stored.delivered is None:
        return None
    if found is Match.UNPROVEN:
        return Outcome(
            Result.UNPROVEN, f"{transcripts.UNPROVEN_WHY}: --changed or --force submits it"
        )
    return Outcome.stored(stored.delivered) if found.is_done else None


def resolve_outcome(
    bucket: Bucket, session: Session, claim: Claim, status: JobStatus | None
) -> Outcome:
    """Decide how a job ended. Stores nothing: see `store_rescued_transcript`.

    S3 goes first: RunPod may have lost a result, run a job twice, or take a stored transcript
    for one that was not (an answer to the PUT that got lost). ``status`` is None if RunPod has
    forgotten the job. Raises `Unreachable` if the answer is about another submission.
    """
    classified = classify_status(status)
    told = classified if isinstance(classified, JobSummary | UploadFailed) else None
    if told is not None and told.request_id not in claim.request_ids:
        raise Unreachable(f"RunPod's answer about job {claim.job_id} is another submission's")
    audio = bucket.head(session.audio_key)
    stored = _as_told(bucket, session, classified) or transcripts.read(bucket, session)
    if stored is not None and stored.delivered is not None and _proves(claim, stored, classified):
        if match(audio, claim, stored).is_done:
            return Outcome.stored(stored.delivered)
        if transcripts.is_ours(claim, stored):
            return _rerecorded(stored.etag)
    return _without_transcript(audio, claim, classified, None if stored is None else stored.etag)


def _as_told(
    bucket: Bucket, session: Session, classified: ClassifiedStatus
) -> StoredTranscript | None:
    """Return the transcript as the worker describes it, if S3 has as many bytes of it."""
    if not isinstance(classified, JobSummary):
        return None
    there = bucket.head(session.result_key)
    if there is None or there.size_bytes != classified.result.bytes:
        return None
    names = {field.name for field in fields(Delivered)}
    delivered = Delivered(**classified.model_dump(include=names), bytes=there.size_bytes)
    return StoredTranscript(there.etag, there.modified_at, delivered, classified.request_id)


def _proves(claim: Claim, stored: StoredTranscript, classified: ClassifiedStatus) -> bool:
    """Whether what S3 has can be the job's.

    It cannot if it was there before, or if it is other than the whole transcript that the answer
    brings. A shortened form proves nothing about the document in S3, which may be the whole one.
    """
    if claim.replaces is not None and transcripts.is_same(stored.etag, claim.replaces):
        return False
    if not isinstance(classified, UploadFailed) or classified.form is not TranscriptForm.COMPLETE:
        return True
    is_this = stored.request_id == classified.request_id
    return not is_this or stored.sha256 in (classified.result.sha256, classified.sent_sha256)


def _without_transcript(
    audio: ObjectInfo | None, claim: Claim, classified: ClassifiedStatus, over: str | None
) -> Outcome:
    if isinstance(classified, UploadFailed):
        return _rescued(audio, claim, classified, over)
    if audio is not None and not transcripts.is_same(audio.etag, claim.audio_etag):
        return _rerecorded(over)
    if isinstance(classified, JobFailure):
        return Outcome(Result.FAILED, classified.message, classified, replaced=over)
    if isinstance(classified, JobSummary):
        there = "nothing" if over is None else "something else"
        text = f"the worker stored {classified.result.bytes} bytes, S3 has {there}: submit again"
        return Outcome(Result.LOST, text, Ending.UNSTORED, replaced=over)
    return replace(classified, replaced=over)


def _rerecorded(over: str | None) -> Outcome:
    text = "the recording changed while its job ran"
    return Outcome(Result.LOST, text, Ending.RERECORDED, replaced=over)


def _rescued(
    audio: ObjectInfo | None, claim: Claim, answer: UploadFailed, over: str | None
) -> Outcome:
    """Take the transcript out of an answer."""
    try:
        body = unpack(answer)
        doc = transcripts.parse(body)
    except TranscriptInvalid as exc:
        text = f"{answer.failure.message}; {exc}"
        return Outcome(Result.FAILED, text, Ending.DAMAGED, replaced=over)
    delivered = Delivered.of(doc, len(body))
    brought = StoredTranscript("", claim.submitted_at, delivered, answer.request_id)
    if match(audio, claim, brought) is not Match.CURRENT:
        return _rerecorded(over)
    text = f"the worker could not store the transcript: {answer.failure.message}"
    rescue = Rescue(body, delivered, answer.form, over)
    return Outcome(Result.LOST, text, Ending.UNDELIVERED, rescue=rescue, replaced=over)


def store_rescued_transcript(bucket: Bucket, session: Session, rescue: Rescue) -> Outcome:
    """Store an answer's transcript with the edge's own keys; raises `Unreachable` to look again."""
    try:
        bucket.replace(session.result_key, rescue.body, rescue.over)
    except PreconditionFailed as exc:
        raise Unreachable(f"{session.result_key} was just written by somebody else") from exc
    text = "the worker could not reach S3; the edge stored the transcript"
    warning = _SHORTENED[rescue.form]
    return Outcome(Result.DONE, text, transcript=rescue.delivered, warning=warning)


def unpack(answer: UploadFailed) -> bytes:
    """Return the transcript inside an answer; raises `TranscriptInvalid` if it is damaged."""
    try:
        packed = base64.b64decode(answer.transcript_gzip_base64, validate=True)
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            promised = min(answer.result.bytes, s3.MAX_READ_BYTES)
            body = file.read(promised + 1)
    except (ValueError, OSError, EOFError, zlib.error) as exc:
        raise TranscriptInvalid("the transcript in the job's output is damaged") from exc
    if hashlib.sha256(body).hexdigest() != answer.result.sha256:
        raise TranscriptInvalid("the transcript in the job's output fails its checksum")
    return body

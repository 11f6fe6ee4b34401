"""The claim of a session: ``transcription.job.json`` says which job runs for which recording.

It is created with ``If-None-Match: *`` and changed with ``If-Match``, so of two edge boxes one
loses, and knows it (`ClaimConflict`). It is written just before ``POST /run``: a claim without a
job id means that a submission is under way, or that its answer was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
)

from bucketscribe_contract import JobOptions
from edge_client.errors import ClaimConflict, ObjectRefused, PreconditionFailed
from edge_client.services.s3 import Bucket
from edge_client.session import Session

DONE = "done"
GRACE = timedelta(minutes=5)
"""Edge boxes' clocks may differ by this much: a claim ends so much later than its ttl."""
MAX_BYTES = 65_536
"""Of a claim. Ours have a few hundred, and two prompts at most."""
OPEN_BYTES = 2048
"""A claim is padded to a multiple of this unless its session is done: so a listing tells them."""
FAILED_BYTES = 1024
"""So many more has one that ended without a transcript."""

Text = Annotated[str, Field(max_length=4096)]
Moment = Annotated[
    AwareDatetime, Field(ge=datetime(2020, 1, 1, tzinfo=UTC), lt=datetime(2100, 1, 1, tzinfo=UTC))
]


def _not_newer(version: int, info: ValidationInfo) -> int:
    """Keep a document of a newer client; the context is its key."""
    if version > 1:
        raise ObjectRefused(f"{info.context} has version {version}: update this client to read it")
    return version


Version = Annotated[int, Field(ge=1), AfterValidator(_not_newer)]


class Attempt(BaseModel):
    """An earlier submission of the same recording, and how it ended (`retry_policy.cause_name`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: Text
    job_id: Text | None = None
    ended: Text


class Wanted(BaseModel):
    """What was asked for, so that any edge box can submit the same again.

    ``webhook`` is a bearer secret, like the recording beside it: out of ``repr``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    options: JobOptions = JobOptions()
    webhook: Text | None = Field(None, repr=False)
    progress_file: bool = False


class Claim(BaseModel):
    """Who submitted what, when, and until when it can still be running.

    Attributes:
        earlier: All submissions of this recording before it, oldest first, that may have cost.
        ended: How it ended for good, once that was reported; `DONE` after a success.
        retry_at: Before that nobody submits again, though time may mend how it ended.
        replaces: ETag of the transcript that was there: it proves nothing about this submission.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    version: Version = 1
    session: Text
    request_id: Text
    endpoint_id: Text
    job_id: Text | None = None
    audio_etag: Text
    audio_bytes: int = Field(ge=0, lt=2**63)
    duration_s: float = Field(ge=0, lt=1e9)
    submitted_at: Moment
    expires_at: Moment
    submitted_by: Text = ""
    execution_timeout_s: int = Field(0, ge=0, le=604_800)
    wanted: Wanted = Wanted()
    earlier: tuple[Attempt, ...] = Field((), max_length=100)
    ended: Text | None = None
    retry_at: Moment | None = None
    replaces: Text | None = None

    @property
    def submissions(self) -> int:
        """How often this recording was submitted, as far as RunPod may have taken it."""
        return len(self.earlier) + (not self.was_refused)

    @property
    def request_ids(self) -> tuple[str, ...]:
        """The submissions whose transcript is this session's."""
        return (self.request_id, *(attempt.request_id for attempt in self.earlier))

    def followed_by(self, ended: str) -> tuple[Attempt, ...]:
        """Return ``earlier`` of the claim that replaces this one."""
        if self.was_refused:
            return self.earlier
        last = Attempt(request_id=self.request_id, job_id=self.job_id, ended=ended)
        return (*self.earlier, last)

    def is_alive(self, now: datetime) -> bool:
        """Tell whether its job can still be queued or running."""
        return now < self.expires_at + GRACE

    def is_open(self, now: datetime) -> bool:
        """Tell whether its job's end is still to come, or to be seen."""
        return self.ended is None and self.is_alive(now)

    @property
    def was_refused(self) -> bool:
        """Whether RunPod certainly did not take its submission (`released`)."""
        return self.expires_at < self.submitted_at

    def closed_as_done(self) -> Self:
        """Return the claim as it stays behind the transcript; nobody submits the same again."""
        return self.model_copy(update={"ended": DONE, "retry_at": None, "wanted": Wanted()})

    def released(self, now: datetime) -> Self:
        """Return the claim as one that anybody may replace."""
        return self.model_copy(update={"expires_at": now - GRACE})


@dataclass(frozen=True)
class StoredClaim:
    """A claim as it is in S3; None if the object is not one, or a copy of another session's."""

    claim: Claim | None
    etag: str
    is_copy: bool = False


def read(bucket: Bucket, session: Session) -> StoredClaim | None:
    """Return the session's claim, if any; raises `ObjectRefused` if nobody may replace it."""
    found = bucket.read(session.claim_key, MAX_BYTES)
    if found is None:
        return None
    body, info = found
    try:
        claim = Claim.model_validate_json(body, context=session.claim_key)
    except ValidationError:
        return StoredClaim(None, info.etag)
    is_copy = claim.session != session.prefix
    return StoredClaim(None if is_copy else claim, info.etag, is_copy)


def current(bucket: Bucket, session: Session) -> Claim | None:
    """Return the session's claim, None if it has no readable one."""
    stored = read(bucket, session)
    return stored.claim if stored is not None else None


def store(bucket: Bucket, session: Session, claim: Claim, over: StoredClaim | None) -> StoredClaim:
    """Write a claim over this one, None: over none; raises `ClaimConflict` if it is another."""
    body = claim.model_dump_json(indent=2).encode()
    if claim.ended != DONE:
        size = -(-len(body) // OPEN_BYTES) * OPEN_BYTES
        body = body.ljust(size if claim.ended is None else size + FAILED_BYTES)
    try:
        etag = bucket.replace(session.claim_key, body, None if over is None else over.etag)
        return StoredClaim(claim, etag)
    except PreconditionFailed as exc:
        there = read(bucket, session)
        if there is not None and there.claim == claim:
            return there  # botocore's own retry: its first try was stored, its answer lost
        remedy = f"`edge-client wait {session.quoted}` follows its job"
        raise ClaimConflict(f"another edge box claimed {session} just now: {remedy}") from exc

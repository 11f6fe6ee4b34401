"""The claim of a session: ``transcription.job.json`` says which job runs for which recording.

It is created with ``If-None-Match: *`` and changed with ``If-Match``, so of two edge boxes one
loses, and knows it (`ClaimConflict`). It is written just before ``POST /run``: a claim without a
job id means that a submission is under way, or that its answer was lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from bucketscribe_contract import JobOptions
from edge_client.errors import ClaimConflict, PreconditionFailed
from edge_client.services.s3 import Bucket
from edge_client.session import Session

DONE = "done"
GRACE = timedelta(minutes=5)
"""Edge boxes' clocks may differ by this much: a claim ends so much later than its ttl."""


class Attempt(BaseModel):
    """An earlier submission of the same recording, and how it ended (`retry_policy.cause_name`)."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: str
    job_id: str | None = None
    ended: str


class Wanted(BaseModel):
    """What was asked for, so that any edge box can submit the same again.

    Attributes:
        webhook: A bearer secret, like the recording beside it: out of ``repr``.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    options: JobOptions = JobOptions()
    webhook: str | None = Field(None, repr=False)
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

    version: Literal[1] = 1
    session: str
    request_id: str
    endpoint_id: str
    job_id: str | None = None
    audio_etag: str
    audio_bytes: int
    duration_s: float
    submitted_at: AwareDatetime
    expires_at: AwareDatetime
    submitted_by: str = ""
    execution_timeout_s: int = 0
    wanted: Wanted = Wanted()
    earlier: tuple[Attempt, ...] = ()
    ended: str | None = None
    retry_at: AwareDatetime | None = None
    replaces: str | None = None

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

    def released(self, now: datetime) -> Self:
        """Return the claim as one that anybody may replace."""
        return self.model_copy(update={"expires_at": now - GRACE})


@dataclass(frozen=True)
class StoredClaim:
    """A claim as it is in S3. ``claim`` is None if the object is not one."""

    claim: Claim | None
    etag: str


def read(bucket: Bucket, session: Session) -> StoredClaim | None:
    """Return the session's claim, None if it has none."""
    found = bucket.read(session.claim_key)
    if found is None:
        return None
    body, info = found
    try:
        return StoredClaim(Claim.model_validate_json(body), info.etag)
    except ValidationError:
        return StoredClaim(None, info.etag)


def current(bucket: Bucket, session: Session) -> Claim | None:
    """Return the session's claim, None if it has no readable one."""
    stored = read(bucket, session)
    return stored.claim if stored is not None else None


def store(bucket: Bucket, session: Session, claim: Claim, over: StoredClaim | None) -> StoredClaim:
    """Write a claim in place of ``over``, as `read` or `store` returned it; None creates.

    Raises:
        ClaimConflict: Somebody else wrote it in between.
    """
    body = claim.model_dump_json(indent=2).encode()
    try:
        if over is None:
            return StoredClaim(claim, bucket.create(session.claim_key, body))
        return StoredClaim(claim, bucket.replace(session.claim_key, body, over.etag))
    except PreconditionFailed as exc:
        there = read(bucket, session)
        if there is not None and there.claim == claim:
            return there  # botocore's own retry: its first try was stored, its answer lost
        raise ClaimConflict(
            f"another edge box claimed {session} just now: `edge-client wait {session.quoted}` "
            "follows its job"
        ) from exc

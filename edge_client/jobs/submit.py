"""Submits a session's job: claim in S3, then ``POST /run``, then the job's id into the claim.

What can fail without consequence comes first (length, signatures, the request). A claim without an
id says that a POST may be in flight or its answer lost: nobody posts again before
`edge_client.jobs.reconcile` has looked. What certainly was not sent, or not taken, frees it.
"""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

from bucketscribe_contract import JobInput, JobState, JobStatus, RunRequest
from bucketscribe_contract.wav import HEAD_BYTES
from edge_client import errors
from edge_client.jobs import claim as claims
from edge_client.jobs.callback_url import fill
from edge_client.jobs.claim import Attempt, Claim, StoredClaim, Wanted
from edge_client.jobs.retry_policy import HELD_CODES, Ending
from edge_client.jobs.transcript import is_same
from edge_client.services import presign
from edge_client.services.edge import Edge
from edge_client.services.presign import Length, Lifetimes
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recording:
    """A session's recording as it was at one moment."""

    info: ObjectInfo
    length: Length


def read_recording(edge: Edge, session: Session) -> Recording:
    """Look at a recording, with a GET of its first 64 KiB; raises `AudioNotFound` without any."""
    found = edge.bucket.read_head(session.audio_key, HEAD_BYTES)
    if found is None:
        remedy = "check the session, or wait until it is uploaded"
        place = f"s3://{edge.bucket.name}/{session.audio_key}"
        raise errors.AudioNotFound(f"no recording at {place}: {remedy}")
    head, info = found
    if info.size_bytes == 0:
        raise errors.AudioNotFound(f"the recording {session.audio_key} is empty: upload it again")
    return Recording(info, presign.recording_length(head, info.size_bytes))


@dataclass(frozen=True)
class Order:
    """A submission that is to be made.

    Attributes:
        held: The claim that it replaces, exactly as it was read; None if there was none.
        replaces: ETag of the transcript that is there.
        ended: How the job of ``held`` ended; None if its claim says it.
        known_s: Seconds that the job is known to need, 0 if nothing is known.
        recording: As it was a moment ago; None: it is read first.
        may_be_done: There is a transcript that nobody has looked at.
        force: Count the submissions of this recording anew.
        request_id: Each try to make it has the same: a claim that has it, too, was never posted.
    """

    wanted: Wanted
    held: StoredClaim | None = None
    replaces: str | None = None
    ended: str | None = None
    known_s: float = 0.0
    recording: Recording | None = None
    may_be_done: bool = False
    force: bool = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def claim(self) -> Claim | None:
        """What ``held`` says; None if it is no claim."""
        return None if self.held is None else self.held.claim


def earlier_submissions(order: Order, audio: ObjectInfo) -> tuple[Attempt, ...]:
    """Return the submissions of this recording that count; a success starts the count anew."""
    claim = order.claim
    if claim is None or claim.ended == claims.DONE or not is_same(claim.audio_etag, audio.etag):
        return ()
    if claim.request_id == order.request_id:
        return claim.earlier
    ended = order.ended or (claim.ended or Ending.EXPIRED).partition(":")[0]
    return claim.earlier if ended in HELD_CODES else claim.followed_by(ended)


@dataclass(frozen=True)
class JobSubmission:
    """A session's submission in place of ``order.held``; ``say`` tells the user."""

    edge: Edge
    session: Session
    order: Order
    say: Callable[[str], None]

    def make(self) -> StoredClaim:
        """Claim the session and submit its job.

        Raises:
            AudioNotFound: No recording, or an empty one.
            RecordingTooLong: No URL lives long enough.
            KeysEndTooSoon: Temporary keys do not.
            ClaimConflict: Another edge box was faster, or it was submitted as often as is allowed.
            AnswerLost: The job may be in flight; the claim stays.
            Unreachable: RunPod cannot be reached: nothing was sent, the claim is free.
            RateLimited: RunPod wants fewer requests; the claim is free.
            RunpodError: RunPod refuses the job; the claim is free.
        """
        edge, session, order = self.edge, self.session, self.order
        recording = order.recording or read_recording(edge, session)
        earlier = () if order.force else earlier_submissions(order, recording.info)
        limit = edge.settings.retry_attempts
        if len(earlier) >= limit:
            text = f"this recording was submitted {limit} times: --force starts anew"
            raise errors.ClaimConflict(text)
        life = self._lifetimes(recording.length)
        claim = self._claim(recording, life, earlier)
        request = self._request(claim, life)
        stored = claims.store(edge.bucket, session, claim, order.held)
        try:
            return self._send(stored, claim, request)
        except errors.AnswerLost as exc:
            raise errors.AnswerLost(
                f"{exc}: the job may be in flight, so it is not submitted again: "
                f"`edge-client wait {session.quoted}` looks for it and goes on"
            ) from exc
        except errors.EdgeError:
            claims.store(edge.bucket, session, claim.released(edge.clock.now()), stored)
            raise

    def _claim(self, recording: Recording, life: Lifetimes, earlier: tuple[Attempt, ...]) -> Claim:
        now = self.edge.clock.now()
        return Claim(
            session=self.session.prefix,
            request_id=self.order.request_id,
            endpoint_id=self.edge.api.endpoint_id,
            audio_etag=recording.info.etag,
            audio_bytes=recording.info.size_bytes,
            duration_s=round(recording.length.duration_s, 3),
            submitted_at=now,
            expires_at=now + timedelta(seconds=life.ttl_s),
            submitted_by=socket.gethostname(),
            execution_timeout_s=life.execution_timeout_s,
            wanted=self.order.wanted,
            earlier=earlier,
            replaces=self.order.replaces,
        )

    def _lifetimes(self, length: Length) -> Lifetimes:
        """Plan the job's lifetimes, and say so where temporary keys shorten them."""
        connection, expiry_s = self.edge.connection, self.edge.settings.url_expiry_s
        now = self.edge.clock.now()
        life = presign.plan_lifetimes(length.duration_s, expiry_s, self.order.known_s)
        fitting = presign.within_keys(connection, life, now)
        warning = presign.early_end(connection, now + timedelta(seconds=life.url_expiry_s))
        if warning is not None:
            self.say(warning)
        return fitting

    def _request(self, claim: Claim, life: Lifetimes) -> RunRequest:
        wanted, connection = claim.wanted, self.edge.connection
        condition = presign.only_over(claim.replaces, self.edge.settings)
        urls = presign.sign_urls(
            connection, self.session, life.url_expiry_s, condition, progress=wanted.progress_file
        )
        job_input = JobInput(
            **wanted.options.model_dump(exclude_defaults=True),
            audio_url=urls.audio_url,
            result_url=urls.result_url,
            result_headers=urls.result_headers,
            progress_url=urls.progress_url,
            request_id=claim.request_id,
        )
        webhook, secret = wanted.webhook, self.edge.settings.webhook_secret
        webhook = None if webhook is None else fill(webhook, self.session, secret)
        made = RunRequest.model_construct  # of parts that are valid, each by itself
        return made(input=job_input, policy=life.policy(), webhook=webhook)

    def _send(self, stored: StoredClaim, claim: Claim, request: RunRequest) -> StoredClaim:
        """Post, and write the job's id into the claim; a failure there must not lose the id."""
        claim = claim.model_copy(update={"job_id": self.edge.api.run(request).id})
        log.info("submitted job %s", claim.job_id)
        try:
            return claims.store(self.edge.bucket, self.session, claim, stored)
        except errors.EdgeError as exc:
            self.say(f"job {claim.job_id} is in flight, but its claim could not be updated: {exc}")
            return StoredClaim(claim, stored.etag)


def check_endpoint(edge: Edge, session: Session, claim: Claim) -> None:
    """Raise `ClaimConflict` if the job is another endpoint's: its 404 would tell nothing."""
    if claim.endpoint_id != edge.settings.endpoint_id:
        raise errors.ClaimConflict(
            f"the job of {session} is on endpoint {claim.endpoint_id}: set "
            f"RUNPOD_ENDPOINT_ID={claim.endpoint_id}, or submit again with --force"
        )


def ask(edge: Edge, job_id: str) -> JobStatus | None:
    """Return a job's status, None if RunPod has no such job."""
    try:
        return edge.api.status(job_id)
    except errors.JobNotFound:
        return None


def cancel_replaced_job(edge: Edge, claim: Claim | None, say: Callable[[str], None]) -> None:
    """Cancel the job that another is going to replace, so that two do not write one transcript.

    One that RunPod did not know may live, too: it may have been a proxy that answered 404.
    """
    if claim is None or claim.job_id is None or not claim.is_alive(edge.clock.now()):
        return
    if (claim.ended or Ending.FORGOTTEN).partition(":")[0] != Ending.FORGOTTEN:
        return
    if claim.endpoint_id != edge.settings.endpoint_id:
        say(f"job {claim.job_id} on endpoint {claim.endpoint_id} is left alone")
        return
    with suppress(errors.JobNotFound, errors.RequestRefused):
        if edge.api.cancel(claim.job_id).status is JobState.CANCELLED:
            say(f"cancelled job {claim.job_id}")

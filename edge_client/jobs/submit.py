"""One submission: claim in S3, then ``POST /run``, then the job's id into the claim.

The order is what makes a crash harmless. Everything that can fail without consequence comes
first (length, signatures), then the claim, then the submission at once. A claim without an id
says that a POST may be under way or its answer lost: nobody posts again before
`edge_client.jobs.reconcile` has looked. What RunPod certainly refused frees the claim and, where
time can help (no connection, 429), is tried again after a pause.

Tells whether a session needs a submission at all: it may be done, or its job may be out.

Submits one session, unless it is done or has a job out; submits again what ended.

What is decided here is whether to submit at all; `edge_client.jobs.submit` does it.
"""

from __future__ import annotations

import itertools
import json
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from bucketscribe_contract import JobInput, JobState, JobStatus, PresignedUrl, RunRequest
from bucketscribe_contract.wav import HEAD_BYTES
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    BadUsage,
    ClaimConflict,
    EdgeError,
    JobNotFound,
    RateLimited,
    Unreachable,
)
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.callback_url import fill
from edge_client.jobs.claim import Attempt, Claim, StoredClaim, Wanted
from edge_client.jobs.outcome import resolve_outcome, store_rescued_transcript
from edge_client.jobs.transcript import Delivered
from edge_client.services import presign
from edge_client.services.edge import Edge
from edge_client.services.presign import Length, Lifetimes
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

log = logging.getLogger(__name__)
REQUEST_BUDGET_BYTES = 2048
"""What a request needs with long-lived keys, three URLs and room to spare."""


@dataclass(frozen=True)
class Task:
    """What is submitted.

    Attributes:
        wanted: The user's wishes.
        say: Tells the user something, one line at a time.
        earlier: Submissions that this one follows.
        known_s: Seconds that the job is known to need, 0 if nothing is known.
    """

    wanted: Wanted
    say: Callable[[str], None]
    earlier: tuple[Attempt, ...] = ()
    known_s: float = 0.0


def submit_job(
    edge: Edge, session: Session, audio: ObjectInfo, held: StoredClaim | None, task: Task
) -> Claim:
    """Claim a session and submit its job.

    Args:
        edge: Settings and services.
        session: Which.
        audio: Its recording; what is there when its length is read is what is claimed.
        held: The claim that is replaced, as it was read.
        task: What is submitted.

    Raises:
        AudioNotFound: The recording is gone.
        RecordingTooLong: No URL lives long enough.
        KeysEndTooSoon: Temporary keys do not.
        ClaimConflict: Another edge box was faster.
        AnswerLost: The job may be out; the claim stays.
        Unreachable: RunPod cannot be reached, or wants fewer requests, after all tries.
        RunpodError: RunPod refuses the job.
    """
    length, audio = measured(edge, audio.key)
    for tries in itertools.count(1):
        life = _lifetimes(edge, length, task)
        claim = _claim(edge, session, audio, length, life, task)
        request = _request(edge, session, claim, life, task)
        held = claims.store(edge.bucket, session, claim, held)
        try:
            return _send(edge, session, held, claim, request, task)
        except (Unreachable, RateLimited) as exc:
            held = _release(edge, session, claim, held)
            _pause(edge, exc, tries, task)
        except AnswerLost as exc:
            raise AnswerLost(
                f"{exc}: the job may be out, so it is not submitted again blindly: "
                f"`edge-client wait {session.quoted}` looks for it and goes on"
            ) from exc
        except EdgeError:
            _release(edge, session, claim, held)
            raise
    raise AssertionError("count() never ends")


def measured(edge: Edge, audio_key: str) -> tuple[Length, ObjectInfo]:
    """Return a recording's length, from its first 64 KiB, and which recording that is.

    Raises:
        AudioNotFound: It is gone.
    """
    found = edge.bucket.read_head(audio_key, HEAD_BYTES)
    if found is None:
        raise AudioNotFound(f"no recording at s3://{edge.bucket.name}/{audio_key} any more")
    head, audio = found
    return presign.recording_length(head, audio.size_bytes), audio


def _lifetimes(edge: Edge, length: Length, task: Task) -> Lifetimes:
    """Plan the job's lifetimes, and say so where temporary keys shorten them."""
    now = edge.clock.now()
    life = presign.plan_lifetimes(length.duration_s, edge.settings.url_expiry_s, task.known_s)
    fitting = presign.within_keys(edge.connection, life, now)
    warning = presign.early_end(edge.connection, life.urls_end(now))
    if warning is not None:
        task.say(warning)
    return fitting


def _claim(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    length: Length,
    life: Lifetimes,
    task: Task,
) -> Claim:
    return Claim.of(
        session,
        audio,
        request_id=uuid.uuid4().hex,
        endpoint_id=edge.api.endpoint_id,
        duration_s=round(length.duration_s, 3),
        life=life,
        now=edge.clock.now(),
        wanted=task.wanted,
        earlier=task.earlier,
    )


def _request(edge: Edge, session: Session, claim: Claim, life: Lifetimes, task: Task) -> RunRequest:
    urls = presign.sign_urls(
        edge.connection, session, life.url_expiry_s, progress=task.wanted.progress_file
    )
    wishes = JobInput(
        **task.wanted.wishes,
        audio_url=urls.audio_url,
        result_url=urls.result_url,
        progress_url=urls.progress_url,
        request_id=claim.request_id,
    )
    webhook = task.wanted.webhook
    called = fill(webhook, session) if webhook is not None else None
    request = RunRequest(input=wishes, policy=life.policy(), webhook=called)
    size_bytes = len(json.dumps(request.to_wire()))
    if size_bytes >= REQUEST_BUDGET_BYTES:
        task.say(
            f"the request is {size_bytes:,} bytes, over our 2 KB: a temporary key's session token "
            "is in every URL, and prompts count too; RunPod takes up to 10 MB, so it is sent"
        )
    return request


def _send(
    edge: Edge, session: Session, held: StoredClaim, claim: Claim, request: RunRequest, task: Task
) -> Claim:
    """Post, and write the job's id into the claim; a failure there must not lose the id."""
    claim = claim.with_job(edge.api.run(request).id)
    try:
        claims.store(edge.bucket, session, claim, held)
    except EdgeError as exc:
        task.say(f"job {claim.job_id} is out, but its claim could not be updated: {exc}")
    log.info("submitted job %s", claim.job_id)
    return claim


def _release(edge: Edge, session: Session, claim: Claim, held: StoredClaim) -> StoredClaim:
    return claims.store(edge.bucket, session, claim.released(edge.clock.now()), held)


def _pause(edge: Edge, exc: Unreachable | RateLimited, tries: int, task: Task) -> None:
    """Wait before the next try, or give up with ``exc``."""
    limits = edge.settings.retry
    if tries >= limits.attempts:
        raise exc
    asked_s = exc.retry_after_s if isinstance(exc, RateLimited) else None
    pause_s = max(limits.pause_s(tries - 1), asked_s or 0.0)
    task.say(f"{exc}; try {tries + 1} of {limits.attempts} in {pause_s:.0f} s")
    edge.clock.sleep(pause_s)


class State(StrEnum):
    """What `submit` found, or did."""

    SUBMITTED = "submitted"
    ALREADY_SUBMITTED = "already_submitted"
    UNANSWERED = "unanswered"
    ALREADY_DONE = "already_done"


@dataclass(frozen=True)
class Submission:
    """A session that has its job, or needs none.

    Attributes:
        claim: Of the job that is out; None if the session is done.
        delivered: With `State.ALREADY_DONE`.
    """

    state: State
    session: Session
    claim: Claim | None = None
    delivered: Delivered | None = None


def existing_submission(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    held: StoredClaim | None,
    say: Callable[[str], None],
    *,
    follow: bool,
) -> Submission | None:
    """Say why nothing needs to be submitted; None if something does.

    Args:
        edge: Settings and services.
        session: Which.
        audio: The recording as it is now.
        held: The session's claim, as it was read.
        say: Told when an ended job is going to be replaced.
        follow: The caller goes on with `edge_client.commands`: a job that ended, and whose end
            nobody was told yet, is left to that. A crash between an end and what follows from it
            then costs no attempt, and starts no count anew.

    Raises:
        ClaimConflict: The claim forbids a submission.
    """
    claim = held.claim if held is not None else None
    done = transcripts.find_done(edge.bucket, session, audio, claim)
    if done is not None:
        return Submission(State.ALREADY_DONE, session, delivered=done)
    if held is not None and claim is None:
        raise ClaimConflict(f"{session.claim_key} is no claim of this client: --force replaces it")
    if claim is None or not claim.is_alive(edge.clock.now()):
        return None
    if claim.ended is not None:
        say(f"job {claim.job_id} ended: {claim.ended}; submitting again")
        return None
    if claim.job_id is None:
        return Submission(State.UNANSWERED, session, claim)
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id)
    if follow and claim.audio_etag == audio.etag and not _was_cancelled(status):
        return Submission(State.ALREADY_SUBMITTED, session, claim)
    return _of_job(edge, session, audio, claim, status, say)


def _was_cancelled(status: JobStatus | None) -> bool:
    return status is not None and status.status is JobState.CANCELLED


def _of_job(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    claim: Claim,
    status: JobStatus | None,
    say: Callable[[str], None],
) -> Submission | None:
    """Judge the job that a living claim names."""
    if status is not None and not status.status.is_final:
        if claim.audio_etag != audio.etag:
            raise ClaimConflict(
                f"the recording changed after job {claim.job_id} was submitted: --force cancels "
                "that job and submits again"
            )
        return Submission(State.ALREADY_SUBMITTED, session, claim)
    outcome = resolve_outcome(edge.bucket, session, claim, status)
    if outcome.answer is not None:
        outcome = store_rescued_transcript(edge.bucket, session, outcome.answer)
    if outcome.delivered is not None and outcome.delivered.is_of(audio, claim):
        return Submission(State.ALREADY_DONE, session, delivered=outcome.delivered)
    say(f"job {claim.job_id} ended: {outcome.message}; submitting again")
    return None


def check_endpoint(edge: Edge, session: Session, claim: Claim) -> None:
    """Refuse to ask one endpoint about another's job: its 404 would look like a lost job.

    Raises:
        ClaimConflict: The claim's job is on another endpoint.
    """
    if claim.endpoint_id != edge.settings.endpoint_id:
        raise ClaimConflict(
            f"the job of {session} is on endpoint {claim.endpoint_id}: set "
            f"RUNPOD_ENDPOINT_ID={claim.endpoint_id}, or submit again with --force"
        )


def ask(edge: Edge, job_id: str) -> JobStatus | None:
    """Return a job's status, None if RunPod has no such job."""
    try:
        return edge.api.status(job_id)
    except JobNotFound:
        return None


_PLACEHOLDER = PresignedUrl("https://placeholder.invalid/")


def check_job_options(options: Mapping[str, Any]) -> JobInput:
    """Return the command line's job options as a `JobInput` whose URL is a placeholder.

    Raises:
        BadUsage: Naming the option.
    """
    try:
        return JobInput(audio_url=_PLACEHOLDER, **options)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        name = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"] == ("language",):
            text = "give an ISO 639-1 code, two small letters, such as en"
        raise BadUsage(name + text) from None


@dataclass(frozen=True)
class Order:
    """What the user wants of a submission.

    Attributes:
        wishes: A `JobInput` whose URLs are placeholders.
        webhook: Where RunPod posts the finished job.
        force: Submit although the session is done or has a job out.
        say: Tells the user something, one line at a time.
        progress_file: The worker writes how far it is into ``transcription.progress.json``, too.
        follow: The caller follows the job (see `existing_submission`).
    """

    wishes: JobInput
    webhook: str | None
    force: bool
    say: Callable[[str], None]
    progress_file: bool = False
    follow: bool = False

    def wanted(self) -> Wanted:
        """Return what of it is kept in the claim."""
        wishes = self.wishes.model_dump(
            mode="json", exclude_defaults=True, exclude={"audio_url", "result_url", "progress_url"}
        )
        return Wanted(wishes=wishes, webhook=self.webhook, progress_file=self.progress_file)


def submit(edge: Edge, session: Session, order: Order) -> Submission:
    """Submit a session unless it is done or its job is out.

    Raises:
        AudioNotFound: No ``audio.wav``, or an empty one.
        RecordingTooLong: No URL lives long enough.
        ClaimConflict: Another edge box was faster, or the claim forbids it.
        AnswerLost: The job may be out; the claim stays.
    """
    audio = recorded(edge, session)
    held = claims.read(edge.bucket, session)
    if not order.force:
        found = existing_submission(edge, session, audio, held, order.say, follow=order.follow)
        if found is not None:
            return found
    elif held is not None and held.claim is not None:
        cancel_replaced_job(edge, held.claim, order.say)
    claim = submit_job(edge, session, audio, held, Task(order.wanted(), order.say))
    return Submission(State.SUBMITTED, session, claim)


def resubmit(
    edge: Edge,
    session: Session,
    claim: Claim,
    ended: str,
    *,
    longer: bool,
    known_s: float,
    say: Callable[[str], None],
) -> Claim:
    """Submit a session again, in place of a job that ended.

    Args:
        edge: Settings and services.
        session: Which.
        claim: Of the job that ended.
        ended: How (`retry_policy.cause_name`).
        longer: Give the new job more time than the old one had.
        known_s: Seconds that the worker asked for, 0 if it did not.
        say: Told of refusals and pauses.

    Raises:
        ClaimConflict: Somebody else went on from this claim, or did something else.
        AudioNotFound, RecordingTooLong, AnswerLost: As `submit`.
    """
    audio = recorded(edge, session)
    held = claims.read(edge.bucket, session)
    there = held.claim if held is not None else None
    if there is not None and there.was_refused and claim.request_id in there.request_ids:
        earlier = there.earlier  # a try of ours that RunPod did not take: it counts for nothing
    elif there is not None and there.request_id == claim.request_id:
        earlier = claim.followed_by(ended)
    else:
        raise ClaimConflict(f"another edge box took {session} over")
    known_s = max(known_s, claim.execution_timeout_s if longer and not known_s else 0)
    earlier = earlier if claim.audio_etag == audio.etag else ()
    return submit_job(edge, session, audio, held, Task(claim.wanted, say, earlier, known_s))


def recorded(edge: Edge, session: Session) -> ObjectInfo:
    """Return the session's recording.

    Raises:
        AudioNotFound: There is none, or it is empty.
    """
    audio = edge.bucket.head(session.audio_key)
    if audio is None:
        raise AudioNotFound(
            f"no recording at s3://{edge.bucket.name}/{session.audio_key}: check the session, "
            "or wait until it is uploaded"
        )
    if audio.size_bytes == 0:
        raise AudioNotFound(f"the recording {session.audio_key} is empty: upload it again")
    return audio


def cancel_replaced_job(edge: Edge, claim: Claim, say: Callable[[str], None]) -> None:
    """Cancel the job that another is going to replace, so that two do not write one transcript.

    Args:
        edge: Settings and services.
        claim: Of the job.
        say: Told what is done about it.
    """
    if claim.job_id is None or not claim.is_alive(edge.clock.now()):
        return
    if claim.endpoint_id != edge.settings.endpoint_id:
        say(f"job {claim.job_id} on endpoint {claim.endpoint_id} is left alone")
        return
    status = ask(edge, claim.job_id)
    if status is not None and not status.status.is_final:
        edge.api.cancel(claim.job_id)
        say(f"cancelled job {claim.job_id}")

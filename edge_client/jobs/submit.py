"""Submits a session's job: claim in S3, then ``POST /run``, then the job's id into the claim.

Returns a `Submission`; raises `EdgeError`. What can fail without consequence comes first (length,
signatures). A claim without an id says that a POST may be in flight or its answer lost: nobody
posts again before `edge_client.jobs.reconcile` has looked. What RunPod certainly refused frees the
claim; no connection and 429 are tried again after a pause.
"""

from __future__ import annotations

import json
import logging
import socket
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from bucketscribe_contract import JobInput, JobState, JobStatus, PresignedUrl, RunRequest
from bucketscribe_contract.redact import one_line
from bucketscribe_contract.wav import HEAD_BYTES
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    BadUsage,
    ClaimConflict,
    EdgeError,
    JobNotFound,
    ObjectRefused,
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
_PLACEHOLDER = PresignedUrl("https://placeholder.invalid/")


def check_job_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the job's options as claims keep them: fields of `JobInput` that are no defaults.

    Raises:
        BadUsage: Naming the option of the command line.
    """
    try:
        job_input = JobInput(audio_url=_PLACEHOLDER, **options)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        name = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"] == ("language",):
            text = "give an ISO 639-1 code, two small letters, such as en"
        raise BadUsage(name + text) from None
    urls = {"audio_url", "result_url", "progress_url"}
    return job_input.model_dump(mode="json", exclude_defaults=True, exclude=urls)


@dataclass(frozen=True)
class Recording:
    """A session's recording as it was at one moment."""

    info: ObjectInfo
    length: Length


def read_recording(edge: Edge, session: Session) -> Recording:
    """Look at a session's recording, with one ranged GET of its first 64 KiB.

    Raises:
        AudioNotFound: There is none, or it is empty.
    """
    found = edge.bucket.read_head(session.audio_key, HEAD_BYTES)
    if found is None:
        raise AudioNotFound(
            f"no recording at s3://{edge.bucket.name}/{session.audio_key}: check the session, "
            "or wait until it is uploaded"
        )
    head, info = found
    if info.size_bytes == 0:
        raise AudioNotFound(f"the recording {session.audio_key} is empty: upload it again")
    return Recording(info, presign.recording_length(head, info.size_bytes))


@dataclass(frozen=True)
class Task:
    """What is submitted.

    Attributes:
        wanted: What was asked for.
        say: Tells the user something, one line at a time.
        earlier: Submissions that this one follows.
        known_s: Seconds that the job is known to need, 0 if nothing is known.
    """

    wanted: Wanted
    say: Callable[[str], None]
    earlier: tuple[Attempt, ...] = ()
    known_s: float = 0.0


def submit_job(
    edge: Edge, session: Session, recording: Recording, stored: StoredClaim | None, task: Task
) -> Claim:
    """Claim a session in place of the claim ``stored``, as it was read, and submit its job.

    Raises:
        RecordingTooLong: No URL lives long enough.
        KeysEndTooSoon: Temporary keys do not.
        ClaimConflict: Another edge box was faster.
        AnswerLost: The job may be in flight; the claim stays.
        Unreachable: RunPod cannot be reached, or wants fewer requests, after all tries.
        RunpodError: RunPod refuses the job.
    """
    tries = 0
    while True:
        tries += 1
        life = _lifetimes(edge, recording.length, task)
        claim = _new_claim(edge, session, recording, life, task)
        request = _request(edge, session, claim, life, task)
        stored = claims.store(edge.bucket, session, claim, stored)
        try:
            return _send(edge, session, stored, claim, request, task)
        except (Unreachable, RateLimited) as exc:
            stored = _release(edge, session, claim, stored)
            _pause(edge, exc, tries, task)
        except AnswerLost as exc:
            raise AnswerLost(
                f"{exc}: the job may be in flight, so it is not submitted again: "
                f"`edge-client wait {session.quoted}` looks for it and goes on"
            ) from exc
        except EdgeError:
            _release(edge, session, claim, stored)
            raise


def _new_claim(
    edge: Edge, session: Session, recording: Recording, life: Lifetimes, task: Task
) -> Claim:
    now = edge.clock.now()
    return Claim(
        session=session.prefix,
        request_id=uuid.uuid4().hex,
        endpoint_id=edge.api.endpoint_id,
        audio_etag=recording.info.etag,
        audio_bytes=recording.info.size_bytes,
        duration_s=round(recording.length.duration_s, 3),
        submitted_at=now,
        expires_at=now + timedelta(seconds=life.ttl_s),
        submitted_by=socket.gethostname(),
        execution_timeout_s=life.execution_timeout_s,
        wanted=task.wanted,
        earlier=task.earlier,
    )


def _lifetimes(edge: Edge, length: Length, task: Task) -> Lifetimes:
    """Plan the job's lifetimes, and say so where temporary keys shorten them."""
    now = edge.clock.now()
    life = presign.plan_lifetimes(length.duration_s, edge.settings.url_expiry_s, task.known_s)
    fitting = presign.within_keys(edge.connection, life, now)
    warning = presign.early_end(edge.connection, now + timedelta(seconds=life.url_expiry_s))
    if warning is not None:
        task.say(warning)
    return fitting


def _request(edge: Edge, session: Session, claim: Claim, life: Lifetimes, task: Task) -> RunRequest:
    wanted = task.wanted
    urls = presign.sign_urls(
        edge.connection, session, life.url_expiry_s, progress=wanted.progress_file
    )
    try:
        job_input = JobInput(
            **wanted.wishes,
            audio_url=urls.audio_url,
            result_url=urls.result_url,
            progress_url=urls.progress_url,
            request_id=claim.request_id,
        )
    except (TypeError, ValidationError) as exc:  # wishes of a newer client's claim, or no client's
        text = f"{session.claim_key}: {one_line(str(exc))}: update this client, or use --force"
        raise ObjectRefused(text) from None
    webhook = fill(wanted.webhook, session) if wanted.webhook is not None else None
    request = RunRequest(input=job_input, policy=life.policy(), webhook=webhook)
    size_bytes = len(json.dumps(request.to_wire()))
    if size_bytes >= REQUEST_BUDGET_BYTES:
        task.say(
            f"the request is {size_bytes:,} bytes, over our 2 KB: a temporary key's session token "
            "is in every URL, and prompts count too; RunPod takes up to 10 MB, so it is sent"
        )
    return request


def _send(
    edge: Edge, session: Session, stored: StoredClaim, claim: Claim, request: RunRequest, task: Task
) -> Claim:
    """Post, and write the job's id into the claim; a failure there must not lose the id."""
    claim = claim.model_copy(update={"job_id": edge.api.run(request).id})
    try:
        claims.store(edge.bucket, session, claim, stored)
    except EdgeError as exc:
        task.say(f"job {claim.job_id} is in flight, but its claim could not be updated: {exc}")
    log.info("submitted job %s", claim.job_id)
    return claim


def _release(edge: Edge, session: Session, claim: Claim, stored: StoredClaim) -> StoredClaim:
    return claims.store(edge.bucket, session, claim.released(edge.clock.now()), stored)


def _pause(edge: Edge, exc: Unreachable | RateLimited, tries: int, task: Task) -> None:
    """Wait before the next try, or give up with ``exc``."""
    retry = edge.settings.retry
    if tries >= retry.attempts:
        raise exc
    asked_s = exc.retry_after_s if isinstance(exc, RateLimited) else None
    pause_s = max(retry.pause_s(tries - 1), asked_s or 0.0)
    task.say(f"{exc}; try {tries + 1} of {retry.attempts} in {pause_s:.0f} s")
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
        claim: Of the job in flight; None if the session is done.
        delivered: With `State.ALREADY_DONE`.
    """

    state: State
    session: Session
    claim: Claim | None = None
    delivered: Delivered | None = None


def submit(
    edge: Edge,
    session: Session,
    wanted: Wanted,
    say: Callable[[str], None],
    *,
    force: bool = False,
    follow: bool = False,
) -> Submission:
    """Submit a session unless it is done or its job is in flight; raises as `submit_job`.

    Args:
        edge: Settings and services.
        session: What is submitted.
        wanted: What is asked for.
        say: Tells the user something, one line at a time.
        force: Submit although the session is done or its job is in flight.
        follow: The caller goes on with the reconciler: a job that ended, and whose end was not
            reported yet, is left to that. A crash between an end and what follows from it then
            costs no attempt, and starts no count anew.

    Raises:
        AudioNotFound: No ``audio.wav``, or an empty one.
        ClaimConflict: Another edge box was faster, or the claim forbids it.
    """
    recording = read_recording(edge, session)
    stored = claims.read(edge.bucket, session)
    if not force:
        found = existing_submission(edge, session, recording.info, stored, follow, say)
        if found is not None:
            return found
    elif stored is not None and stored.claim is not None:
        cancel_replaced_job(edge, stored.claim, say)
    claim = submit_job(edge, session, recording, stored, Task(wanted, say))
    return Submission(State.SUBMITTED, session, claim)


def existing_submission(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    stored: StoredClaim | None,
    follow: bool,
    say: Callable[[str], None],
) -> Submission | None:
    """Return the submission that a session has already, None if it needs one; as in `submit`.

    ``audio`` is the recording as it is now; ``say`` is told when an ended job is to be replaced.

    Raises:
        ClaimConflict: The claim forbids a submission.
    """
    claim = stored.claim if stored is not None else None
    done = transcripts.find_done(edge.bucket, session, audio, claim)
    if done is not None:
        return Submission(State.ALREADY_DONE, session, delivered=done)
    if stored is not None and claim is None and not stored.is_copy:
        raise ClaimConflict(f"{session.claim_key} is no claim of this client: --force replaces it")
    if claim is None or not claim.is_alive(edge.clock.now()):
        return None
    if claim.ended is not None:
        say(f"job {claim.job_id} ended: {claim.ended}; submitting again")
        return None
    if claim.job_id is None:
        return Submission(State.UNANSWERED, session, claim)
    return _of_job(edge, session, audio, claim, follow, say)


def _of_job(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    claim: Claim,
    follow: bool,
    say: Callable[[str], None],
) -> Submission | None:
    """Look at the job that a living claim names."""
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id or "")
    is_same = claim.audio_etag == audio.etag
    is_final = status is None or status.status.is_final
    if not is_final and not is_same:
        raise ClaimConflict(
            f"the recording changed after job {claim.job_id} was submitted: --force cancels "
            "that job and submits again"
        )
    was_cancelled = status is not None and status.status is JobState.CANCELLED
    if not is_final or (follow and is_same and not was_cancelled):
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
    """Submit a session again as `submit`, in place of the claim's job, which ended so.

    With ``longer`` the new job has more time than the old one had: ``known_s``, if the worker
    asked for so long, else twice the old time.

    Raises:
        ClaimConflict: Somebody else went on from this claim, or did something else.
    """
    recording = read_recording(edge, session)
    stored = claims.read(edge.bucket, session)
    there = stored.claim if stored is not None else None
    if there is not None and there.was_refused and claim.request_id in there.request_ids:
        earlier = there.earlier  # a try of ours that RunPod did not take: it counts for nothing
    elif there is not None and there.request_id == claim.request_id:
        earlier = claim.followed_by(ended)
    else:
        raise ClaimConflict(f"another edge box took {session} over")
    known_s = max(known_s, claim.execution_timeout_s if longer and not known_s else 0)
    earlier = earlier if claim.audio_etag == recording.info.etag else ()
    task = Task(claim.wanted, say, earlier, known_s)
    return submit_job(edge, session, recording, stored, task)


def cancel_replaced_job(edge: Edge, claim: Claim, say: Callable[[str], None]) -> None:
    """Cancel the job that another is going to replace, so that two do not write one transcript."""
    if claim.job_id is None or not claim.is_alive(edge.clock.now()):
        return
    if claim.endpoint_id != edge.settings.endpoint_id:
        say(f"job {claim.job_id} on endpoint {claim.endpoint_id} is left alone")
        return
    status = ask(edge, claim.job_id)
    if status is not None and not status.status.is_final:
        edge.api.cancel(claim.job_id)
        say(f"cancelled job {claim.job_id}")

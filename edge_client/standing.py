"""Tells whether a session needs a submission at all: it may be done, or its job may be out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from contract import JobState, JobStatus
from edge_client import transcripts
from edge_client.claim import Claim, Held
from edge_client.edge import Edge
from edge_client.errors import ClaimConflict, JobNotFound
from edge_client.layout import Session
from edge_client.settle import settle
from edge_client.storage import ObjectInfo
from edge_client.transcripts import Delivered


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


def standing(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    held: Held | None,
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
        follow: The caller goes on with `edge_client.campaign`: a job that ended, and whose end
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
    outcome = settle(edge.bucket, session, claim, status)
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

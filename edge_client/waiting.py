"""Follows a session's job to its end, whoever submitted it."""

from __future__ import annotations

from functools import partial

from edge_client import claim as claims
from edge_client import follow, transcripts
from edge_client.claim import GRACE, Claim
from edge_client.edge import Edge
from edge_client.errors import ClaimConflict, WaitTimedOut
from edge_client.follow import View
from edge_client.layout import Session
from edge_client.settle import Outcome, settle
from edge_client.standing import check_endpoint
from edge_client.verdict import Result
from edge_client.views import view_for


def claim_of(edge: Edge, session: Session) -> Claim | None:
    """Return the session's claim, None if it has no readable one."""
    held = claims.read(edge.bucket, session)
    return held.claim if held is not None else None


def wait(
    edge: Edge, session: Session, claim: Claim | None, *, quiet: bool, timeout_s: float | None
) -> Outcome:
    """Wait until a session has its transcript, or its job has failed.

    Args:
        edge: Settings and services.
        session: Which.
        claim: Of the job to follow.
        quiet: Show no progress.
        timeout_s: Seconds at most; None: as long as the job can live.

    Raises:
        ClaimConflict: Nothing was submitted.
        WaitTimedOut: The job is still out.
    """
    if claim is None or not claim.is_alive(edge.clock.now()):
        done = _done(edge, session, claim)
        if done is not None:
            return done
    if claim is None:
        raise ClaimConflict(
            f"nothing was submitted for {session}: `edge-client submit {session.quoted} --wait`"
        )
    with view_for(quiet) as view:
        try:
            return _outcome(edge, session, claim, view, timeout_s)
        except WaitTimedOut as exc:
            raise WaitTimedOut(
                f"{exc}: the job goes on; `edge-client wait {session.quoted}` resumes"
            ) from exc


def _outcome(
    edge: Edge, session: Session, claim: Claim, view: View, timeout_s: float | None
) -> Outcome:
    life_s = max(0.0, (claim.expires_at + GRACE - edge.clock.now()).total_seconds())
    limit_s = life_s if timeout_s is None else min(life_s, timeout_s)
    if claim.job_id is not None:
        check_endpoint(edge, session, claim)
        ask = partial(edge.api.status, claim.job_id)
        status = follow.until_final(ask, view, edge.clock, limit_s)
        return settle(edge.bucket, session, claim, status)
    view.note("the submission's answer is not known: watching S3 for its transcript")
    look = partial(transcripts.find_of_job, edge.bucket, session, claim.request_id)
    try:
        follow.until_found(look, view, edge.clock, limit_s)
    except WaitTimedOut:
        if claim.is_alive(edge.clock.now()):
            raise
    return settle(edge.bucket, session, claim, None)


def _done(edge: Edge, session: Session, claim: Claim | None) -> Outcome | None:
    audio = edge.bucket.head(session.audio_key)
    found = transcripts.find_done(edge.bucket, session, audio, claim)
    return None if found is None else Outcome(Result.DONE, "the transcript is in S3", found)

"""Waits for a session's transcript, whoever submitted it."""

from __future__ import annotations

from edge_client import claim as claims
from edge_client import transcripts
from edge_client.campaign import Campaign
from edge_client.claim import Claim
from edge_client.clock import Deadline
from edge_client.edge import Edge
from edge_client.errors import ClaimConflict, WaitTimedOut
from edge_client.layout import Session
from edge_client.settle import Outcome
from edge_client.verdict import Result
from edge_client.views import view_for


def claim_of(edge: Edge, session: Session) -> Claim | None:
    """Return the session's claim, None if it has no readable one."""
    held = claims.read(edge.bucket, session)
    return held.claim if held is not None else None


def wait(
    edge: Edge, session: Session, claim: Claim | None, *, quiet: bool, timeout_s: float | None
) -> tuple[Outcome, Claim | None]:
    """Wait until a session has its transcript, or has failed for good.

    Any box may go on with what another one began: a job that ends in a way that can be recovered
    is recovered here, whoever submitted it (`edge_client.campaign`).

    Args:
        edge: Settings and services.
        session: Which.
        claim: Of the job to follow.
        quiet: Show no progress.
        timeout_s: Seconds at most; None: as long as jobs can live.

    Returns:
        The end, and the claim of the submission that came to it.

    Raises:
        ClaimConflict: Nothing was submitted.
        WaitTimedOut: The job is still out.
    """
    if claim is None or not claim.is_alive(edge.clock.now()):
        done = _done(edge, session, claim)
        if done is not None:
            return done, claim
    if claim is None:
        raise ClaimConflict(
            f"nothing was submitted for {session}: `edge-client submit {session.quoted} --wait`"
        )
    with view_for(quiet) as view:
        campaign = Campaign(edge, session, view, Deadline(edge.clock, timeout_s))
        try:
            end = campaign.run(claim)
        except WaitTimedOut as exc:
            raise WaitTimedOut(f"{exc}; `edge-client wait {session.quoted}` resumes") from exc
    return end.outcome, end.claim


def _done(edge: Edge, session: Session, claim: Claim | None) -> Outcome | None:
    audio = edge.bucket.head(session.audio_key)
    found = transcripts.find_done(edge.bucket, session, audio, claim)
    return None if found is None else Outcome(Result.DONE, "the transcript is in S3", found)

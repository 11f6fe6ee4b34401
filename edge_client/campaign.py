"""Sees a session through: follows its job, and does what the recovery table says when it ends.

Takes the claim of a job; returns how the last submission ended. Whatever is done goes through the
claim, so any edge box, or the same one after a crash, goes on where this one stopped: the claim
holds what was asked for, how earlier submissions ended, and, once somebody was told of a failure,
that it is over.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from contract import JobFailure, UploadFailed
from edge_client import claim as claims
from edge_client import follow
from edge_client.claim import GRACE, Claim
from edge_client.clock import Deadline
from edge_client.edge import Edge
from edge_client.errors import (
    AnswerLost,
    ClaimConflict,
    EdgeError,
    Unreachable,
    WaitTimedOut,
)
from edge_client.follow import View
from edge_client.layout import Session
from edge_client.lost_answer import Search
from edge_client.recovery import TABLE, Do, Step, name_of, next_step
from edge_client.settle import Outcome, examine, take
from edge_client.standing import ask, check_endpoint
from edge_client.submission import resubmit
from edge_client.verdict import Ending, Result

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class End:
    """How a session's last submission ended, and its claim."""

    outcome: Outcome
    claim: Claim


class Campaign:
    """The submissions of one session, until there is a transcript or nothing more to do.

    Args:
        edge: Settings and services.
        session: Which.
        view: Shows progress, and what is done.
        deadline: How long to wait in all.
    """

    def __init__(self, edge: Edge, session: Session, view: View, deadline: Deadline) -> None:
        self._edge, self._session, self._view, self._deadline = edge, session, view, deadline

    def run(self, claim: Claim) -> End:
        """Follow the claim's job, and those that take its place.

        Raises:
            WaitTimedOut: The time is over; the job goes on.
            ClaimConflict: The job is on another endpoint.
            EdgeError: A service does not answer, or refuses.
        """
        while True:
            seen = self._follow(claim)
            if isinstance(seen, Claim):
                claim = seen
                continue
            answered = self._answer(claim, seen)
            if isinstance(answered, End):
                return answered
            claim = answered

    def _follow(self, claim: Claim) -> Outcome | Claim:
        """Wait for the end of one submission."""
        life_s = max(0.0, (claim.expires_at + GRACE - self._edge.clock.now()).total_seconds())
        limit_s = self._deadline.left_s(life_s)
        check_endpoint(self._edge, self._session, claim)
        if claim.job_id is None:
            return self._search(claim, limit_s)
        if claim.ended is not None or not claim.is_alive(self._edge.clock.now()):
            status = ask(self._edge, claim.job_id)
        else:
            look = partial(self._edge.api.status, claim.job_id)
            status = follow.until_final(look, self._view, self._edge.clock, limit_s)
        return self._dated(claim, examine(self._edge.bucket, self._session, claim, status))

    def _search(self, claim: Claim, limit_s: float) -> Outcome | Claim:
        """Look for a submission without an answer."""
        if claim.ended is None:
            self._view.note("the submission's answer is not known: looking for the job and in S3")
        else:
            limit_s = 0.0
        look = Search(self._edge, self._session, claim)
        try:
            seen = follow.until_found(look, self._view, self._edge.clock, limit_s)
        except WaitTimedOut:
            if claim.ended is None and claim.is_alive(self._edge.clock.now()):
                raise
            outcome = examine(self._edge.bucket, self._session, claim, None)
            return self._dated(claim, outcome)
        if seen.claim is not None:
            return seen.claim
        if seen.delivered is not None:
            return Outcome(Result.DONE, "the transcript is in S3", seen.delivered)
        text = "RunPod has no job, and S3 no transcript, of a submission whose answer was lost"
        return Outcome(Result.LOST, text, ending=Ending.UNANSWERED)

    def _dated(self, claim: Claim, outcome: Outcome) -> Outcome:
        """Tell a job that RunPod forgot too early from one whose time was over."""
        if outcome.ending is not Ending.FORGOTTEN or self._edge.clock.now() < claim.expires_at:
            return outcome
        refused = "nothing is out: RunPod refused the last submission; submit again"
        over = (
            f"the job's time was over at {claim.expires_at:%Y-%m-%d %H:%M} UTC and S3 has no "
            "transcript: `edge-client doctor` tells whether workers come up; then submit again"
        )
        text = refused if claim.expires_at < claim.submitted_at else over
        return replace(outcome, ending=Ending.EXPIRED, message=text)

    def _answer(self, claim: Claim, outcome: Outcome) -> Claim | End:
        """Do what the table says; return the claim to follow now, or the end."""
        cause = outcome.cause
        if cause is None or (claim.ended is not None and cause is not Ending.UNDELIVERED):
            return End(_as_reported(claim, outcome), claim)
        earlier = [attempt.ended for attempt in claim.earlier]
        step = next_step(TABLE, cause, earlier, self._edge.limits)
        log.debug("%s: %s", name_of(cause), step)
        deeds: dict[Do, Callable[[], Claim | End]] = {
            Do.SUBMIT: lambda: self._submit(claim, outcome, step),
            Do.TAKE: lambda: self._take(claim, outcome),
            Do.SKIP: lambda: self._close(claim, replace(outcome, result=Result.SKIPPED)),
            Do.REPORT: lambda: self._close(claim, _after(outcome, step, len(earlier) + 1)),
        }
        return deeds[step.do]()

    def _submit(self, claim: Claim, outcome: Outcome, step: Step) -> Claim:
        """Submit again; if another box did, or the answer is lost, follow what there is."""
        number, limit = len(claim.earlier) + 2, self._edge.limits.attempts
        when = f" in {step.pause_s:.0f} s" if step.pause_s else ""
        self._view.note(f"{_said(outcome)}; submission {number} of {limit}{when}")
        self._deadline.sleep(step.pause_s)
        cause = outcome.cause
        needed_s = cause.needed_seconds if isinstance(cause, JobFailure) else None
        try:
            return resubmit(
                self._edge,
                self._session,
                claim,
                name_of(cause) if cause is not None else "",
                longer=step.longer,
                known_s=float(needed_s or 0),
                say=self._view.note,
            )
        except (AnswerLost, ClaimConflict) as exc:
            self._view.note(str(exc))
            return self._claim_now(exc)

    def _claim_now(self, cause: EdgeError) -> Claim:
        held = claims.read(self._edge.bucket, self._session)
        if held is None or held.claim is None:
            raise cause
        return held.claim

    def _take(self, claim: Claim, outcome: Outcome) -> Claim | End:
        """Store the transcript that came in the job's output; S3 may be away here, too."""
        if outcome.answer is None:
            raise AssertionError("UNDELIVERED comes with its answer")
        stored = self._stored(outcome.answer)
        if stored.cause is not None:
            return self._answer(claim, stored)
        return End(stored, claim)

    def _stored(self, answer: UploadFailed) -> Outcome:
        limits = self._edge.limits
        for tries in range(limits.attempts - 1):
            try:
                return take(self._edge.bucket, self._session, answer)
            except Unreachable as exc:
                pause_s = limits.pause_s(tries)
                self._view.note(f"{exc}; storing the transcript again in {pause_s:.0f} s")
                self._deadline.sleep(pause_s)
        return take(self._edge.bucket, self._session, answer)

    def _close(self, claim: Claim, outcome: Outcome) -> End:
        """Mark the claim: whoever submits this session now starts afresh."""
        cause = outcome.cause
        text = f"{name_of(cause)}: {outcome.message}" if cause is not None else outcome.message
        closed = claim.closed(text)
        held = claims.read(self._edge.bucket, self._session)
        if (
            held is not None
            and held.claim is not None
            and held.claim.request_id == claim.request_id
        ):
            try:
                claims.store(self._edge.bucket, self._session, closed, held)
            except EdgeError as exc:
                self._view.note(f"the claim could not be closed: {exc}")
        return End(outcome, closed)


def _said(outcome: Outcome) -> str:
    cause = outcome.cause
    return f"{cause.code}: {outcome.message}" if isinstance(cause, JobFailure) else outcome.message


def _after(outcome: Outcome, step: Step, submissions: int) -> Outcome:
    """Say how often it was tried, where that is why nothing more is done."""
    if not step.used_up or submissions < 2:
        return outcome
    return replace(outcome, message=f"{outcome.message} (after {submissions} submissions)")


def _as_reported(claim: Claim, outcome: Outcome) -> Outcome:
    """Keep to what was said when the claim was closed: RunPod forgets the reason."""
    if claim.ended is None or outcome.ending not in (Ending.FORGOTTEN, Ending.EXPIRED):
        return outcome
    return replace(outcome, result=Result.FAILED, message=claim.ended)

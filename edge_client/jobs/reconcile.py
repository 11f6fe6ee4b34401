"""Follows a session to its end, a step at a time: `Reconciler.step` does what is due.

Takes the claim of a job; returns the seconds until the next step, or the `End`; never sleeps, so
one process can follow thousands. Everything goes through the claim in S3, so any edge box, or the
same one after a crash, goes on where this one stopped. A submission whose answer was lost is looked
for, never blindly repeated: docs/adr/0005-no-blind-second-submission.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bucketscribe_contract import JobFailure, JobStatus
from edge_client.errors import AnswerLost, ClaimConflict, EdgeError, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim
from edge_client.jobs.outcome import Outcome, resolve_outcome, store_rescued_transcript
from edge_client.jobs.poll import Finished, JobProgress, Poller, PollInterval, View
from edge_client.jobs.retry_policy import (
    Ending,
    NextStep,
    Result,
    StepKind,
    cause_name,
    next_step,
)
from edge_client.jobs.submit import ask, check_endpoint, resubmit
from edge_client.jobs.transcript import Delivered
from edge_client.services.edge import Edge
from edge_client.session import Session


def find_unconfirmed(
    edge: Edge, session: Session, claim: Claim, began_s: float
) -> Claim | Delivered | Ending | None:
    """Look once for a submission whose answer is not known.

    RunPod finds no job by a key of ours. Only an endpoint without a job in its queue or at work,
    for longer than any POST can be under way, proves that the submission is not there: it never
    was, or it ended without a transcript. Either way submitting again pays for nothing twice.
    That the endpoint was idle before ``began_s``, the monotonic second of the first look, says
    nothing: the POST may have been under way.

    Returns:
        A claim that names a job or another submission by now; the transcript;
        `Ending.UNANSWERED` if there certainly is no job; None if nothing is known yet.
    """
    idle_since = edge.idle.since()  # before S3: a job that ends in between has stored by then
    stored = claims.read(edge.bucket, session)
    if stored is not None and stored.claim is not None and stored.claim != claim:
        return stored.claim
    found = transcripts.find_of_job(edge.bucket, session, claim)
    if found is not None:
        return found
    if idle_since is None:
        return None
    idle_s = edge.clock.monotonic() - max(idle_since, began_s)
    return Ending.UNANSWERED if idle_s >= edge.settings.lost_answer_s else None


log = logging.getLogger(__name__)
RERECORDED = "rerecorded"


@dataclass(frozen=True)
class End:
    """How a session's last submission ended.

    Attributes:
        status: RunPod's last word on it, where it had one.
    """

    outcome: Outcome
    claim: Claim
    status: JobStatus | None = None


@dataclass(frozen=True)
class _Planned:
    """A submission that is due at a monotonic second."""

    ended: str
    longer: bool
    known_s: float
    at: float


Next = End | float


class Reconciler:
    """The submissions of one session, until there is a transcript or nothing more to do.

    It begins with the job of ``claim``; ``interval`` makes the pauses between looks at one.
    """

    def __init__(
        self,
        edge: Edge,
        session: Session,
        claim: Claim,
        view: View,
        interval: Callable[[Claim], PollInterval] = lambda _: PollInterval(),
    ) -> None:
        self._edge, self._session, self._view = edge, session, view
        self._interval = interval
        self._planned: _Planned | None = None
        self._stores = self._reruns = 0
        self._status: JobStatus | None = None
        self._follow(claim)

    @property
    def claim(self) -> Claim:
        """The submission that is followed now."""
        return self._claim

    @property
    def plans_submission(self) -> bool:
        """Whether no job is in flight, and the next step that is due submits one."""
        return self._planned is not None

    def step(self) -> Next:
        """Do what is due.

        Returns:
            The end, or the seconds until the next step; earlier ones look, but submit nothing.

        Raises:
            ClaimConflict: The job is on another endpoint.
            EdgeError: A service does not answer, or refuses. The step can be made again.
        """
        return self._act()

    def _follow(self, claim: Claim) -> Next:
        """Follow a submission; the first look at it is due."""
        self._claim, self._planned = claim, None
        self._act: Callable[[], Next] = self._begin
        return 0.0

    def _begin(self) -> Next:
        check_endpoint(self._edge, self._session, self._claim)
        interval = self._interval(self._claim)
        if self._claim.job_id is None:
            if self._claim.ended is None:
                text = "the submission's answer is not known: looking for the job and in S3"
                self._view.note(text)
            self._act = partial(self._search, self._edge.clock.monotonic(), interval)
        else:
            look = partial(self._edge.api.status, self._claim.job_id)
            self._act = partial(self._poll, Poller(look, self._view, self._edge.clock, interval))
        return self._act()

    def _is_over(self) -> bool:
        """Whether the claim says that its job is over: one look is enough."""
        return self._claim.ended is not None or not self._claim.is_alive(self._edge.clock.now())

    def _poll(self, poll: Poller) -> Next:
        """Look at a job that has an id."""
        seen = (
            Finished(ask(self._edge, self._claim.job_id or "")) if self._is_over() else poll.look()
        )
        if isinstance(seen, float):
            return seen
        self._status = seen.status
        return self._resolve(seen.status)

    def _resolve(self, status: JobStatus | None) -> Next:
        """Answer the last status, None if there is none, as S3 proves or disproves it."""
        outcome = resolve_outcome(self._edge.bucket, self._session, self._claim, status)
        return self._answer(outcome.with_expiry(self._claim, self._edge.clock.now()))

    def _search(self, began_s: float, interval: PollInterval) -> Next:
        """Look for a submission without an answer."""
        seen = find_unconfirmed(self._edge, self._session, self._claim, began_s)
        if seen is None:
            if self._is_over():
                return self._resolve(None)
            self._view.show(JobProgress("waiting for a transcript in S3"))
            return interval.next_s()
        if isinstance(seen, Claim):
            return self._follow(seen)
        if isinstance(seen, Delivered):
            return self._end(Outcome.stored(seen))
        text = "RunPod has no job, and S3 no transcript, of a submission whose answer was lost"
        return self._answer(Outcome(Result.LOST, text, ending=seen))

    def _answer(self, outcome: Outcome) -> Next:
        """Do what the policy says."""
        claim, cause = self._claim, outcome.cause
        if cause is None or (claim.ended is not None and cause is not Ending.UNDELIVERED):
            return self._end(outcome.as_reported(claim))
        earlier = [attempt.ended for attempt in claim.earlier]
        step = next_step(cause, earlier, self._edge.settings.retry)
        log.debug("%s: %s", cause_name(cause), step)
        actions: dict[StepKind, Callable[[], Next]] = {
            StepKind.SUBMIT: lambda: self._plan(outcome, step),
            StepKind.STORE: lambda: self._store(outcome),
            StepKind.SKIP: lambda: self._end(replace(outcome, result=Result.SKIPPED)),
            StepKind.REPORT: lambda: self._end(outcome.with_count(step, len(earlier) + 1)),
        }
        return actions[step.kind]()

    def _plan(self, outcome: Outcome, step: NextStep) -> Next:
        """Let a submission follow, after a pause where there is one."""
        cause = outcome.cause
        number, limit = len(self._claim.earlier) + 2, self._edge.settings.retry.attempts
        when = f" in {step.pause_s:.0f} s" if step.pause_s else ""
        self._view.note(f"{outcome.text}; submission {number} of {limit}{when}")
        known_s = float((cause.needed_seconds or 0) if isinstance(cause, JobFailure) else 0)
        ended = cause_name(cause) if cause is not None else ""
        at = self._edge.clock.monotonic() + step.pause_s
        return self._wait_for(_Planned(ended, step.longer, known_s, at))

    def _wait_for(self, planned: _Planned) -> Next:
        self._planned = planned
        self._act = partial(self._submit, planned)
        return max(0.0, planned.at - self._edge.clock.monotonic())

    def _submit(self, planned: _Planned) -> Next:
        """Submit again; if another box did, or the answer is lost, follow what there is."""
        left_s = planned.at - self._edge.clock.monotonic()
        if left_s > 0:
            return left_s
        try:
            claim = resubmit(
                self._edge,
                self._session,
                self._claim,
                planned.ended,
                longer=planned.longer,
                known_s=planned.known_s,
                say=self._view.note,
            )
        except (AnswerLost, ClaimConflict) as exc:
            self._view.note(str(exc))
            there = claims.current(self._edge.bucket, self._session)
            if there is None:
                raise
            claim = there
        return self._follow(claim)

    def _store(self, outcome: Outcome) -> Next:
        """Store the transcript that came in the job's output; S3 may be away here, too."""
        if outcome.answer is None:
            raise AssertionError("UNDELIVERED comes with its answer")
        self._act = partial(self._store, outcome)
        try:
            stored = store_rescued_transcript(self._edge.bucket, self._session, outcome.answer)
        except Unreachable as exc:
            return self._retry_store(exc)
        return self._answer(stored)

    def _retry_store(self, exc: Unreachable) -> Next:
        retry = self._edge.settings.retry
        self._stores += 1
        if self._stores >= retry.attempts:
            self._stores = 0
            raise exc
        pause_s = retry.pause_s(self._stores - 1)
        self._view.note(f"{exc}; storing the transcript again in {pause_s:.0f} s")
        return pause_s

    def _end(self, outcome: Outcome) -> Next:
        """End here, unless the recording is another one by now."""
        if self._claim.ended is None and self._is_rerecorded(outcome):
            self._reruns += 1
            self._view.note("the recording changed while its job ran; submitting again")
            now = self._edge.clock.monotonic()
            return self._wait_for(_Planned(RERECORDED, False, 0.0, now))
        if outcome.result is not Result.DONE and self._claim.ended is None:
            self._close(outcome)
        return End(outcome, self._claim, self._status)

    def _is_rerecorded(self, outcome: Outcome) -> bool:
        """Whether there is a recording, another than the job's; not for ever: who records on?"""
        audio = self._edge.bucket.head(self._session.audio_key)
        if audio is None or self._reruns >= self._edge.settings.retry.attempts:
            return False
        if outcome.delivered is not None:
            return not outcome.delivered.is_of(audio, self._claim)
        return audio.etag != self._claim.audio_etag

    def _close(self, outcome: Outcome) -> None:
        """Mark the claim: whoever submits this session now starts afresh."""
        cause = outcome.cause
        text = f"{cause_name(cause)}: {outcome.message}" if cause is not None else outcome.message
        self._claim = closed = self._claim.model_copy(update={"ended": text})
        held = claims.read(self._edge.bucket, self._session)
        if held is None or held.claim is None or held.claim.request_id != closed.request_id:
            return
        try:
            claims.store(self._edge.bucket, self._session, closed, held)
        except EdgeError as exc:
            self._view.note(f"the claim could not be closed: {exc}")

"""Takes a session to its end, a step at a time: `Reconciler.step` does what is due.

Takes an `Order`, or the claim of a job; returns `RequeueAfter` or `Done`; never sleeps, so one
process can follow thousands. Everything goes through the claim in S3, so any edge box, or the same
one after a crash, goes on where this one stopped. A submission whose answer was lost is looked for,
never blindly repeated: docs/adr/0005-no-blind-second-submission.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from bucketscribe_contract import JobStatus
from edge_client import errors
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.outcome import Outcome, find_done, resolve_outcome, store_rescued_transcript
from edge_client.jobs.poll import JobProgress, Poller, PollInterval, View
from edge_client.jobs.retry_policy import RETENTION_S, Ending, NextStep, Result, StepKind, next_step
from edge_client.jobs.submit import (
    JobSubmission,
    Order,
    ask,
    cancel_replaced_job,
    check_endpoint,
    read_recording,
)
from edge_client.jobs.transcript import Match, match
from edge_client.services.edge import Edge
from edge_client.session import Session

log = logging.getLogger(__name__)
PATIENCE_S = 300.0
"""How long a service may be away before a session is given up: the only patience there is."""
PAUSE_S = 15.0
"""Before a service that did not answer is asked again."""
ABSENCE_FACTOR = 1.5
"""Of ``LOST_ANSWER_SECONDS``: a job that RunPod does not know for so long, on an idle endpoint, is
gone. One 404 may be a proxy's, or come before a new job is known everywhere; another job costs."""
LONGEST_ABSENCE_S = 900.0
"""After that it is gone, however busy the endpoint is."""


@dataclass(frozen=True)
class Done:
    """How a session ended; ``claim`` is of its last submission, None if it needed none.

    ``gpu_s`` are the seconds that its jobs ran while they were followed, as far as RunPod said.
    """

    session: Session
    outcome: Outcome
    claim: Claim | None = None
    gpu_s: float | None = None


@dataclass(frozen=True)
class RequeueAfter:
    """The next step is due after so many seconds; an earlier one looks, but submits nothing.

    ``ended`` is the job that ended just now without a transcript; another follows.
    """

    seconds: float
    ended: Outcome | None = None


Next = Done | RequeueAfter


class Reconciler:
    """The submissions of one session, until there is a transcript or nothing more to do.

    Attributes:
        claim: The submission that is followed; None before the first. ``held`` has it as in S3.
        plans_submission: No job is in flight, and the next step that is due submits one.
        posted: The job that is followed was posted here.
        is_waiting: A service did not answer the last step.
        queued_since_s: Monotonic; None while its job does not wait for a worker.
        gpu_s: As in `Done`.

    Args:
        begin: The job to follow, or the first submission to make; None: the claim is read.
        interval: Makes the pauses between looks at a job.
        retries_held: Submit again what a fault of the deployment had ended before this run.
        pays_unproven: Submit although the transcript may be of this recording.
    """

    def __init__(
        self,
        edge: Edge,
        session: Session,
        view: View,
        begin: StoredClaim | Order | None = None,
        interval: Callable[[Claim], PollInterval] = lambda _: PollInterval(),
        *,
        retries_held: bool = False,
        pays_unproven: bool = False,
    ) -> None:
        self._edge, self._session, self._view = edge, session, view
        self._interval, self._retries_held = interval, retries_held
        self._pays_unproven = pays_unproven
        self._order: Order
        self.claim: Claim | None = None
        self.held: StoredClaim | None = None
        self._reruns, self._was_alive, self._tried = 0, False, False
        self._missing_since: float | None = None
        self.queued_since_s: float | None = None
        self._ran_s: dict[str, float] = {}
        self.gpu_s: float | None = None
        self.posted = self.plans_submission = self.is_waiting = False
        self._away_since: float | None = None
        self._act: Callable[[], Next]
        if isinstance(begin, Order):
            self.held = begin.held
            self._plan(begin)
        elif begin is not None:
            self._follow(begin)
        else:
            self._act = self._load

    def step(self) -> Next:
        """Do what is due; a service that is away is borne for `PATIENCE_S`.

        Raises:
            ClaimConflict: The job is on another endpoint, or the claim forbids a submission.
            EdgeError: A service refuses, or was away for too long. The step can be made again.
        """
        try:
            seen = self._act()
        except (errors.Unreachable, errors.RateLimited) as exc:
            now, self.is_waiting = self._edge.clock.monotonic(), True
            if self._away_since is None:
                self._away_since = now
                self._view.note(f"{exc}; trying again")
            elif now - self._away_since >= PATIENCE_S:
                self._away_since = None
                raise
            asked_s = exc.retry_after_s if isinstance(exc, errors.RateLimited) else None
            return RequeueAfter(max(PAUSE_S, asked_s or 0.0))
        self._away_since, self.is_waiting = None, False
        return seen

    def _load(self) -> Next:
        """Begin with the claim that is there; one that is closed has its end, or a transcript."""
        held = claims.read(self._edge.bucket, self._session)
        claim = None if held is None else held.claim
        if claim is None or not claim.is_open(self._edge.clock.now()):
            stored = transcripts.read(self._edge.bucket, self._session)
            audio = self._edge.bucket.head(self._session.audio_key)
            outcome = find_done(match(audio, claim, stored), stored)
            if outcome is not None:
                return Done(self._session, outcome, claim)
        if held is None or claim is None:
            name = self._session.quoted
            text = f"nothing was submitted for {self._session}: `edge-client submit {name} --wait`"
            raise errors.ClaimConflict(text)
        self._follow(held)
        return self._act()

    def _follow(self, held: StoredClaim, posted: bool = False) -> Next:
        """Follow a submission; the first look at it is due, unless it was ``posted`` just now."""
        if held.claim is None:
            raise AssertionError("what is followed is a claim")
        self.held, self.claim, self.plans_submission = held, held.claim, False
        self.posted = self._was_alive = posted
        self._heard_at, self._missing_since = held.claim.submitted_at, None
        self._began_s = self._edge.clock.monotonic()
        interval = self._interval(held.claim)
        self._act = partial(self._begin, held.claim, interval)
        return RequeueAfter(interval.next_s() if posted else 0.0)

    def _begin(self, claim: Claim, interval: PollInterval) -> Next:
        check_endpoint(self._edge, self._session, claim)
        if claim.job_id is None:
            if claim.ended is None:
                text = "the submission's answer is not known: looking for the job and in S3"
                self._view.note(text)
            self._act = partial(self._search, claim, interval)
        else:
            look = partial(self._edge.api.status, claim.job_id)
            poller = Poller(look, self._view, self._edge.clock, interval)
            self._act = partial(self._poll, claim, poller)
        return self._act()

    def _poll(self, claim: Claim, poller: Poller) -> Next:
        """Look at a job that has an id."""
        if not claim.is_open(self._edge.clock.now()):  # one look is enough
            return self._resolve(claim, ask(self._edge, claim.job_id or ""))
        try:
            seen = poller.look()
        except errors.JobNotFound:  # or not yet: S3 may have what it left
            if self._is_gone():
                return self._resolve(claim, None)
            outcome = resolve_outcome(self._edge.bucket, self._session, claim, None)
            if outcome.transcript is not None:
                return self._answer(claim, outcome)
            return RequeueAfter(poller.interval.next_s())
        self._heard_at, self._missing_since = self._edge.clock.now(), None
        if isinstance(seen, JobStatus):
            return self._resolve(claim, seen)
        self._was_alive, self.queued_since_s = True, poller.queued_since_s
        return RequeueAfter(seen)

    def _is_gone(self) -> bool:
        clock = self._edge.clock
        if (clock.now() - self._heard_at).total_seconds() >= RETENTION_S:
            return True
        now_s = clock.monotonic()
        if self._missing_since is None:
            self._missing_since = now_s
        missing_s = now_s - self._missing_since
        if missing_s < ABSENCE_FACTOR * self._edge.settings.lost_answer_s:
            return False
        return missing_s >= LONGEST_ABSENCE_S or self._edge.api.idle_since() is not None

    def _resolve(self, claim: Claim, last: JobStatus | None) -> Next:
        """Answer the last status as S3 proves or disproves it; None: RunPod has no such job."""
        outcome = resolve_outcome(self._edge.bucket, self._session, claim, last)
        if last is not None and last.execution_time_ms is not None:
            self._ran_s[claim.request_id] = last.execution_time_ms / 1000
            self.gpu_s = sum(self._ran_s.values())
        may_live = last is None or not last.status.is_final
        return self._answer(claim, outcome.with_expiry(claim, self._edge.clock.now()), may_live)

    def _search(self, claim: Claim, interval: PollInterval) -> Next:
        """Look for a submission without an answer.

        RunPod finds no job by a key of ours. Only an endpoint without a job in its queue or at
        work, for longer than any POST can be under way, proves that the submission is not there:
        it never was, or it ended without a transcript. That the endpoint was idle before the first
        look says nothing: the POST may have been under way.
        """
        idle_since = self._edge.api.idle_since()  # before S3: a job that ends in between has stored
        held = claims.read(self._edge.bucket, self._session)
        if held is not None and held.claim is not None and held.claim != claim:
            return self._follow(held)
        outcome = resolve_outcome(self._edge.bucket, self._session, claim, None)
        now = self._edge.clock.now()
        if outcome.transcript is not None or not claim.is_open(now):
            return self._answer(claim, outcome.with_expiry(claim, now))
        if idle_since is not None:
            idle_s = self._edge.clock.monotonic() - max(idle_since, self._began_s)
            if idle_s >= self._edge.settings.lost_answer_s:
                text = "RunPod has no job, and S3 no transcript, of a submission without an answer"
                lost = replace(outcome, message=text, reason=Ending.UNANSWERED)
                return self._answer(claim, lost)
        self._view.show(JobProgress("waiting for a transcript in S3"))
        return RequeueAfter(interval.next_s())

    def _answer(self, claim: Claim, outcome: Outcome, may_live: bool = False) -> Next:
        """Do what the policy says."""
        reason = outcome.reason
        if reason is None:
            return self._end(claim, outcome)
        if outcome.rescue is not None:
            stored = store_rescued_transcript(self._edge.bucket, self._session, outcome.rescue)
            return self._end(claim, stored)
        if claim.ended is not None:
            return self._end(claim, outcome.as_reported(claim))
        settings, earlier = self._edge.settings, [each.ended for each in claim.earlier]
        if reason is Ending.RERECORDED:
            self._reruns += 1
            is_last = self._reruns >= settings.retry_attempts  # who records on and on?
            step = NextStep(StepKind.REPORT if is_last else StepKind.SUBMIT)
        else:
            step = next_step(reason, earlier, settings)
        log.debug("%s: %s", outcome.code, step)
        if step.kind is StepKind.SUBMIT or (
            step.kind is StepKind.HOLD and self._retries_held and not self._was_alive
        ):
            return self._submit_again(claim, outcome, step, may_live)
        results = {StepKind.HOLD: Result.HELD, StepKind.SKIP: Result.SKIPPED}
        outcome = replace(outcome, result=results.get(step.kind, outcome.result))
        if step.used_up and earlier:
            text = f"{outcome.message} (after {len(earlier) + 1} submissions)"
            outcome = replace(outcome, message=text)
        return self._end(claim, outcome)

    def _submit_again(self, claim: Claim, outcome: Outcome, step: NextStep, may_live: bool) -> Next:
        """Let a submission follow, after a pause where there is one."""
        count = f" {claim.submissions + 1} of {self._edge.settings.retry_attempts}"
        if outcome.reason is Ending.RERECORDED:
            count = " anew"
        when = f" in {step.pause_s:.0f} s" if step.pause_s else ""
        self._view.note(f"{outcome.text}; submission{count}{when}")
        known_s = (outcome.failure and outcome.failure.needed_seconds) or 0.0
        if step.longer and not known_s:
            known_s = claim.execution_timeout_s
        order = Order(claim.wanted, self.held, outcome.replaced, outcome.code, known_s)
        self._plan(order, step.pause_s, may_live)
        return RequeueAfter(step.pause_s, outcome)

    def _plan(self, order: Order, pause_s: float = 0.0, may_live: bool = False) -> None:
        """Carry an order out after a pause; what was followed is cancelled if it may live."""
        self._order, self.plans_submission, self._tried = order, True, False
        self._act = partial(self._submit, self._edge.clock.monotonic() + pause_s, may_live)

    def _submit(self, due_s: float, may_live: bool) -> Next:
        """Submit; if another box did, or the answer is lost, follow what there is."""
        left_s = due_s - self._edge.clock.monotonic()
        if left_s > 0:
            return RequeueAfter(left_s)
        is_first = self.claim is None
        if (self._tried or not is_first) and (there := self._taken_over()) is not None:
            return self._follow(there)
        self._tried, order = True, replace(self._order, held=self.held)
        if order.may_be_done:  # looked at before another transcript is paid for
            recording = read_recording(self._edge, self._session)
            stored = transcripts.read(self._edge.bucket, self._session)
            replaces = None if stored is None else stored.etag
            order = replace(order, recording=recording, replaces=replaces)
            found = match(recording.info, order.claim, stored)
            outcome = None if order.force else find_done(found, stored)
            if outcome and not (found is Match.UNPROVEN and self._pays_unproven):
                return Done(self._session, outcome)
        if may_live or order.ended is None:
            replaced = order.claim if is_first else self.claim  # which has its job
            cancel_replaced_job(self._edge, replaced, self._view.note)
        return self._post(order)

    def _post(self, order: Order) -> Next:
        submission = JobSubmission(self._edge, self._session, order, self._view.note)
        try:
            held = submission.make()
        except (errors.AnswerLost, errors.ClaimConflict) as exc:
            self.plans_submission = False  # whatever S3 says: this one may be in flight
            self._act = partial(self._follow_there, order, exc)
            return self._act()
        return self._follow(held, posted=True)

    def _follow_there(self, order: Order, exc: errors.AnswerLost | errors.ClaimConflict) -> Next:
        """Follow the claim of a submission whose answer was lost, or of another box's."""
        there = claims.read(self._edge.bucket, self._session)
        if there is None or there.claim is None or there.claim == order.claim:
            raise exc
        self._view.note(str(exc))
        seen = self._follow(there)
        self.posted = self._was_alive = isinstance(exc, errors.AnswerLost)
        return seen

    def _taken_over(self) -> StoredClaim | None:
        """Return the claim if it became another's; keep it if it is the one to be replaced."""
        there = claims.read(self._edge.bucket, self._session)
        known = self.held.claim if self.held is not None else None
        if there is not None and there.claim is not None:
            claim = there.claim
            is_known = known is not None and claim in (
                known,
                known.model_copy(update={"job_id": None}),  # its id could not be written
            )
            is_unsent = self._tried and claim.request_id == self._order.request_id
            if not (claim.was_refused or is_known or is_unsent):
                self._view.note(f"another edge box took {self._session} over")
                return there
        self.held = there
        return None

    def _end(self, claim: Claim, outcome: Outcome) -> Next:
        """End here, and write into the claim how: whoever submits this session starts from there.

        What was held stays open, so that the next batch goes on with it.
        """
        gpu_s = self.gpu_s
        if gpu_s is None and outcome.transcript is not None:
            gpu_s = outcome.transcript.processing_time_seconds
        if claim.ended is not None or outcome.result is Result.HELD:
            return Done(self._session, outcome, claim, gpu_s)
        if outcome.result is Result.DONE:
            closed = claim.closed_as_done()
        else:
            code = f"{outcome.code}: " if outcome.code else ""
            pause_s = self._edge.settings.retry_pause_s(claim.submissions)
            retry_at = self._edge.clock.now() + timedelta(seconds=pause_s)
            ended = f"{code}{outcome.message}"[:1000]
            closed = claim.model_copy(update={"ended": ended, "retry_at": retry_at})
        try:
            self.held = claims.store(self._edge.bucket, self._session, closed, self.held)
        except errors.ClaimConflict:
            log.debug("%s: another box went on from this claim", self._session)
        except errors.EdgeError as exc:
            self._view.note(f"the claim could not be closed: {exc}")
        return Done(self._session, outcome, closed, gpu_s)

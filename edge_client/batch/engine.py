"""Runs many sessions at once: submits what is planned, and follows every job to its end.

Tells `BatchProgress` what becomes of each. A `WorkQueue` makes the steps, in threads; one lock
guards everything else, progress included. Memory holds at most ``max_in_flight`` jobs of this box,
`FOLLOWED_AT_MOST` of others, and `DRAWN_AHEAD` sessions. A failure in one session ends its turn.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

from edge_client.batch.limits import Budget, CircuitBreaker, QueueDepth, Shutdown, ShutdownLevel
from edge_client.batch.progress import BatchProgress
from edge_client.batch.results import FAILED, record_end, record_without_end
from edge_client.batch.types import IN_FLIGHT, PlannedAction, PlannedSession, Record, RunConfig
from edge_client.errors import EdgeError, RunpodError, Unreachable
from edge_client.jobs import reconcile
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress, why_jobs_wait
from edge_client.jobs.reconcile import Done, Next, Reconciler
from edge_client.jobs.submit import Order
from edge_client.jobs.workqueue import WorkQueue
from edge_client.services.edge import Edge
from edge_client.session import Session

log = logging.getLogger(__name__)
THREADS = 16
SUBMITTING_AT_MOST = 8
"""The other threads are left to the jobs in flight: RunPod may make submissions wait."""
FOLLOWED_AT_MOST = 2_000
DRAWN_AHEAD = 10_000
"""Jobs in flight are found behind those that wait: RunPod forgets their ends after 30 minutes."""
LOOK_S = 0.2
"""How long a signal may go unnoticed."""
TURN_S = 0.5
"""Before a session that may not submit yet asks again."""
HEALTH_EVERY_S = 15.0
DRAIN_S = 10.0
"""How long submissions in progress may take when the batch has to leave soon."""
Listing = Callable[[], Generator[PlannedSession, None, None]]


@dataclass(eq=False)
class SessionRun:
    """One session in a batch; stepped by one thread at a time, any of them. A `poll.View`."""

    engine: Engine
    planned: PlannedSession
    shown: Claim | None = None

    def __post_init__(self) -> None:
        planned, config, forces = self.planned, self.engine.config, self.engine.config.chosen.force
        self.session = planned.session
        order = Order(config.wanted, planned.held, may_be_done=planned.has_transcript, force=forces)
        self.reconciler = Reconciler(
            self.engine.edge,
            planned.session,
            self,
            planned.held if planned.action is PlannedAction.FOLLOW else order,
            config.interval,
            retries_held=True,
            pays_unproven=config.chosen.changed,
        )

    @property
    def audio_s(self) -> float:
        """The recording's length, as far as it is known."""
        claim = self.reconciler.claim or self.planned.claim
        return self.planned.likely_s if claim is None else claim.duration_s

    def show(self, progress: JobProgress) -> None:
        """Take what a poll saw."""
        with self.engine.changed:
            if progress.state != "queued":
                self.engine.depth.left(self.session)
            self.engine.progress.polled(self.session, progress)

    def note(self, message: str) -> None:
        """Tell the user something, under the session's name."""
        with self.engine.changed:
            self.engine.progress.note(f"{self.session}: {message}")


class Engine:
    """One run over a bucket, made for it; ``progress`` is told all, from one thread at a time."""

    def __init__(
        self, edge: Edge, config: RunConfig, progress: BatchProgress, shutdown: Shutdown
    ) -> None:
        self.edge, self.config, self.progress = edge, config, progress
        self.changed = threading.Condition(threading.RLock())
        self.depth = QueueDepth(edge.clock, config.queue_floor)
        self._shutdown = shutdown
        self._ready: deque[PlannedSession] = deque()
        self._in_flight: deque[PlannedSession] = deque()
        self._runs: dict[Session, SessionRun] = {}
        self._mine: set[Session] = set()
        self._submitting: set[Session] = set()
        self._seen: set[object] = set()
        self._is_listing, self._is_closed = True, False
        self._breaker = CircuitBreaker(edge.clock)
        self._budget = Budget(config.max_gpu_s)
        capacity = config.max_in_flight + FOLLOWED_AT_MOST
        self._queue = WorkQueue(self._work, edge.clock, capacity)
        self._looked_s, self._told = edge.clock.monotonic(), set[str]()

    def run(self, listing: Listing) -> None:
        """Run all sessions to their end, or until the user wants to leave.

        Raises what concerns every session, or the listing, once the jobs in flight have ended.
        """
        feeder = threading.Thread(target=self._feed, args=(listing,), name="feeder", daemon=True)
        feeder.start()
        self._queue.start(THREADS, "batch")
        try:
            while not self.is_over:
                self._look_at_queue()
                with self.changed:
                    self._admit()
                    self.changed.wait(LOOK_S)
        finally:
            self.close()
        if error := self._breaker.error or self._breaker.doubt:
            raise error

    def close(self) -> None:
        """Begin nothing more; jobs in flight go on, and the next batch finds them."""
        with self.changed:
            self._is_closed = True
            self._queue.close()
            self.changed.notify_all()
            for run in list(self._runs.values()):
                self._put_back(run, "its job goes on")

    @property
    def is_over(self) -> bool:
        """Whether there is nothing more to do, or the user wants to leave."""
        if self._shutdown.level is ShutdownLevel.LEAVE_NOW:
            return True
        if self._shutdown.level is ShutdownLevel.LEAVE_SOON:
            return not self._submitting or self._shutdown.for_s() > DRAIN_S
        is_waiting = self._submits and (self._is_listing or self._waiting or self.config.watch)
        return not is_waiting and not self._runs

    @property
    def _waiting(self) -> int:
        return len(self._ready) + len(self._in_flight)

    @property
    def _submits(self) -> bool:
        """Whether the batch may still submit something."""
        is_left = self._shutdown.level is not ShutdownLevel.NONE or self._budget.is_spent
        return not is_left and self._breaker.error is None

    def _feed(self, listing: Listing) -> None:
        """Draw sessions, in a thread, again and again while the batch works."""
        is_first = True
        while not self._is_closed:
            began_s = self.edge.clock.monotonic()
            try:
                with closing(listing()) as sessions:
                    self._draw(sessions, is_first)
            except Exception as exc:
                error = (
                    exc if isinstance(exc, EdgeError) else EdgeError(f"listing: {exc!r}: report it")
                )
                with self.changed:
                    if is_first or not isinstance(exc, Unreachable):
                        self._breaker.open(error)
                    else:
                        self.progress.note(f"{exc}; the bucket is listed again later")
            with self.changed:
                self._is_listing = False
                every_s = self.config.relist_s
                while every_s is None or self.edge.clock.monotonic() - began_s < every_s:
                    self.changed.wait(LOOK_S)
                    if self._is_closed or every_s is None:
                        return
                self._is_listing, is_first = True, False

    def _draw(self, sessions: Iterator[PlannedSession], is_first: bool) -> None:
        for planned in sessions:
            with self.changed:
                while self._waiting >= DRAWN_AHEAD and not self._is_closed:
                    self.changed.wait(LOOK_S)
                if self._is_closed:
                    return
                if is_first or planned.action.is_work:
                    self._listed(planned)
        with self.changed:
            self.progress.stats.is_listing = False

    def _listed(self, planned: PlannedSession) -> None:
        if not planned.action.is_work:
            self.progress.stats.listed(planned)
            if planned.action is not PlannedAction.DONE:
                record = record_without_end(planned.session, planned.action, planned.why)
                self.progress.ended(record)
        elif self._is_new(planned):
            self.progress.stats.listed(planned)
            is_submission = planned.action is PlannedAction.SUBMIT
            (self._ready if is_submission else self._in_flight).append(planned)
            self._admit()

    def _is_new(self, planned: PlannedSession) -> bool:
        """Whether this run has not had it; while it watches, a retry that a claim allows is new."""
        if planned.session in self._runs:
            return False
        etag = None if planned.audio is None else planned.audio.etag
        claim = planned.claim.request_id if self.config.watch and planned.claim else None
        key = (planned.session, etag, claim, planned.action if claim else None)
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new

    def _admit(self) -> None:
        while self._in_flight and self._submits:
            if len(self._runs) - len(self._mine) >= FOLLOWED_AT_MOST:  # those of other boxes
                break
            self._begin(self._in_flight.popleft())
        while self._ready and self._submits and self._fits(self._ready[0]):
            self._begin_submission(self._begin(self._ready.popleft()))

    def _begin(self, planned: PlannedSession) -> SessionRun:
        run = self._runs[planned.session] = SessionRun(self, planned)
        self._queue.add(run.session)
        return run

    def _fits(self, planned: PlannedSession) -> bool:
        if len(self._mine) >= self.config.max_in_flight or not self._may_submit():
            return False
        return self._is_affordable(planned.session, planned.likely_s, 0.0)

    def _is_affordable(self, session: Session, audio_s: float, used_s: float) -> bool:
        if self._budget.has_room(session, audio_s, used_s):
            return True
        if not self._mine - {session} and not self._submitting:
            self._budget.is_spent = True
            self.progress.note(f"submitting stops: {self._budget.text()}")
        return False

    def _may_submit(self) -> bool:
        count = len(self._submitting)
        has_room = count < SUBMITTING_AT_MOST and self.depth.has_room(count)
        return has_room and self._breaker.may_submit

    def _begin_submission(self, run: SessionRun) -> None:
        self._submitting.add(run.session)
        self._mine.add(run.session)
        self._breaker.submits(run.session.prefix)
        self._budget.submits(run.session, run.audio_s, run.reconciler.gpu_s or 0.0)

    def _work(self, session: Session) -> float | None:
        """Make a session's next step, in a thread; return when it is due again."""
        with self.changed:
            run = self._runs.get(session)
            if run is None or self._is_closed:
                return None
            is_submission = run.reconciler.plans_submission
            if is_submission and session not in self._submitting:
                if not self._submits:
                    self._put_back(run, "its next submission is left to the next batch")
                    return None
                used_s = run.reconciler.gpu_s or 0.0
                is_affordable = self._is_affordable(session, run.audio_s, used_s)
                if not is_affordable or not self._may_submit():
                    return TURN_S
                self._begin_submission(run)
        try:
            seen: Next | EdgeError = run.reconciler.step()
        except EdgeError as exc:
            seen = exc
        except Exception as exc:
            log.exception("%s: unexpected, please report it", session.prefix[:300])
            seen = EdgeError(f"unexpected {type(exc).__name__}: {exc}; please report it")
        with self.changed:
            again_s = self._stepped(run, seen, is_submission)
            self._admit()
            self.changed.notify_all()
            return again_s

    def _stepped(
        self, run: SessionRun, seen: Next | EdgeError, is_submission: bool
    ) -> float | None:
        session, reconciler = run.session, run.reconciler
        self._submitting.discard(session)
        if session not in self._runs:
            return None  # the batch has left meanwhile
        self._show_submission(run)
        if isinstance(seen, EdgeError):
            self._give_up(run, seen, is_submission)
            return None
        if is_submission and reconciler.is_waiting:
            self._breaker.pause(reconcile.PAUSE_S)
        elif is_submission and reconciler.posted:
            self._breaker.submitted()
        outcome = seen.outcome if isinstance(seen, Done) else seen.ended
        if outcome is not None and reconciler.claim is not None:
            self.depth.ended(session)
            if (line := self._breaker.ended(session.prefix, outcome)) is not None:
                self.progress.note(line)
        if isinstance(seen, Done):
            if seen.claim is None:
                self._budget.dropped(session)
            self._end(run, record_end(seen), seen.gpu_s)
            return None
        return seen.seconds

    def _show_submission(self, run: SessionRun) -> None:
        """Take what the step may have changed: the job that is followed, and whose it is."""
        claim, reconciler = run.reconciler.claim, run.reconciler
        if not reconciler.posted and not reconciler.plans_submission:
            self._mine.discard(run.session)
            self._budget.dropped(run.session)
        if claim is None or (run.shown is not None and claim.request_id == run.shown.request_id):
            return
        run.shown = claim
        if reconciler.posted:
            self.depth.posted(run.session, (claim.expires_at - claim.submitted_at).total_seconds())
        self.progress.submitted(run.session, claim)

    def _give_up(self, run: SessionRun, exc: EdgeError, is_submission: bool) -> None:
        self._breaker.count(exc, is_submission)
        claim = None if is_submission else run.reconciler.claim
        result = FAILED if claim is None or type(exc) is EdgeError else IN_FLIGHT
        record = record_without_end(run.session, result, str(exc), claim=claim, code=exc.code)
        self._end(run, record)

    def _put_back(self, run: SessionRun, message: str) -> None:
        """Let go of a session that the next batch finds as it is."""
        claim = run.reconciler.claim
        record = record_without_end(run.session, IN_FLIGHT, message, claim=claim)
        self._end(run, None if claim is None else record)

    def _end(self, run: SessionRun, record: Record | None, gpu_s: float | None = None) -> None:
        session = run.session
        self.depth.left(session)
        self._breaker.left(session.prefix)
        self._runs.pop(session, None)
        self._mine.discard(session)
        self._submitting.discard(session)
        self._budget.ended(session, gpu_s)
        if record is not None:
            self.progress.ended(record)

    def _look_at_queue(self) -> None:
        """Ask now and then how many jobs wait, and say why if none of them is begun."""
        now_s = self.edge.clock.monotonic()
        if now_s - self._looked_s < HEALTH_EVERY_S or not self.depth.waits_s():
            return
        self._looked_s = now_s
        try:
            health = self.edge.api.health()
        except (Unreachable, RunpodError):
            return
        with self.changed:
            self.depth.looked(health)
            why = why_jobs_wait(health) if self.depth.waits_s() >= 4 * HEALTH_EVERY_S else None
            if why is not None and why not in self._told:
                self._told.add(why)
                self.progress.note(f"jobs wait: {why}")

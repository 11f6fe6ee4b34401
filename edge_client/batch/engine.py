"""Runs many sessions at once: submits what is planned, and follows every job to its end.

Takes `PlannedSession`s; tells `BatchProgress` what becomes of each. One thread decides; a feeder
draws from the plan, a pool speaks to S3 and RunPod. Their news come back through one `Relay`, so
neither decisions nor progress need a lock. Memory holds at most ``max_in_flight`` jobs of this box,
`FOLLOWED_AT_MOST` of others, and `DRAWN_AHEAD` sessions. Raises what concerns every session.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from queue import Empty, SimpleQueue

from edge_client.batch.progress import BatchProgress
from edge_client.batch.results import FAILED, record_end, record_without_end
from edge_client.batch.shutdown import CircuitBreaker, Shutdown, ShutdownLevel
from edge_client.batch.types import IN_FLIGHT, PlannedAction, PlannedSession, Record, RunConfig
from edge_client.errors import AnswerLost, ClaimConflict, EdgeError, RateLimited, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress
from edge_client.jobs.reconcile import End, Reconciler
from edge_client.jobs.submit import Task, cancel_replaced_job, read_recording, submit_job
from edge_client.services.edge import Edge
from edge_client.session import Session

THREADS = 16
SUBMITTING_AT_MOST = 8
"""The other threads are left to the jobs in flight: RunPod may make submissions wait."""
FOLLOWED_AT_MOST = 2_000
DRAWN_AHEAD = 500
LOOK_S = 0.2
"""How long a signal may go unnoticed."""
PAUSE_S = 15.0
"""Before a service that did not answer is asked again."""
DRAIN_S = 10.0
"""How long submissions in progress may take when the batch has to leave soon."""
PATIENCE_S = 300.0
"""How long S3 or RunPod may not answer before a session is given up for this run."""


class Relay:
    """Calls that threads hand to the thread that decides, in order."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def call(self, function: Callable[..., None], *values: object) -> None:
        """Have the deciding thread call a function."""
        self._calls.put(lambda: function(*values))

    def run(self, wait_s: float) -> None:
        """Wait at most ``wait_s`` for the next call; then make all there are."""
        with suppress(Empty):
            self._calls.get(timeout=wait_s)()
            while True:
                self._calls.get_nowait()()


def _raise(exc: Exception) -> None:
    raise exc


class Pool:
    """Daemon threads that do what they are given: leaving at once waits for no slow server."""

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=self._run, name=f"batch-{number}", daemon=True).start()

    def do(self, work: Callable[[], None]) -> None:
        """Have a thread do ``work``, which must not raise."""
        self._work.put(work)

    def close(self) -> None:
        """Let the threads end once they are done with what they have."""
        self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
        self._work.put(None)  # for the next thread


@dataclass(eq=False)
class SessionRun:
    """One session in a batch; stepped by one thread at a time, any of them. A `poll.View`.

    Attributes:
        is_mine: This batch submits its job; it is not another box's.
        shown_request: The request that the progress display knows of.
        away_since_s: When a service first did not answer; None while all do.
    """

    edge: Edge
    planned: PlannedSession
    config: RunConfig
    relay: Relay
    progress: BatchProgress
    shown_request: str = ""
    away_since_s: float | None = None
    _reconciler: Reconciler | None = field(default=None, init=False)
    _was_tried: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.is_mine = self.planned.action is PlannedAction.SUBMIT

    @property
    def session(self) -> Session:
        """Which session it is."""
        return self.planned.session

    @property
    def claim(self) -> Claim | None:
        """The submission that is followed; None before there is one."""
        return None if self._reconciler is None else self._reconciler.claim

    @property
    def plans_submission(self) -> bool:
        """Whether the next step posts a job."""
        if self._reconciler is None:
            return self.planned.action is PlannedAction.SUBMIT
        return self._reconciler.plans_submission

    def show(self, progress: JobProgress) -> None:
        """Take what a poll saw."""
        self.relay.call(self.progress.polled, self.session, progress)

    def note(self, message: str) -> None:
        """Tell the user something, under the session's name."""
        self.relay.call(self.progress.note, f"{self.session}: {message}")

    def step(self) -> End | float:
        """Do what is due; return the end, or the seconds until the next step.

        Raises:
            EdgeError: As `Reconciler.step` and `submit_job`. The step can be made again.
        """
        if self._reconciler is not None:
            return self._reconciler.step()
        claim = self._submit() if self.plans_submission else self.planned.claim
        if claim is None:
            raise AssertionError("what is followed has a claim")
        self._reconciler = Reconciler(self.edge, self.session, claim, self, self.config.interval)
        return self.config.interval(claim).next_s() if self.is_mine else 0.0

    def _submit(self) -> Claim:
        """Claim the session and post its job; where another box was faster, take its claim."""
        if self._was_tried:  # a try claimed, and released; another box may have claimed since
            claim = self._read_claim()
            if claim is not None and claim.is_alive(self.edge.clock.now()):
                self.is_mine = False
                return claim
        self._was_tried = True
        try:
            return self._post()
        except (AnswerLost, ClaimConflict) as exc:
            if isinstance(exc, AnswerLost):
                self.note(str(exc))
            else:
                self.is_mine = False
            claim = self._read_claim()
            if claim is None:
                raise
            return claim

    def _post(self) -> Claim:
        recording, replaced = read_recording(self.edge, self.session), self.planned.claim
        if replaced is not None:
            cancel_replaced_job(self.edge, replaced, self.note)
        task = Task(self.config.wanted, self.note)
        return submit_job(self.edge, self.session, recording, self.planned.held, task)

    def _read_claim(self) -> Claim | None:
        held = claims.read(self.edge.bucket, self.session)
        self.planned = replace(self.planned, held=held)
        return self.planned.claim


class Engine:
    """One run over a bucket, made for it.

    Args:
        edge: Settings and services.
        config: How it is run.
        progress: Told everything, from the thread that calls `run`.
        shutdown: What the user asks for meanwhile.
    """

    def __init__(
        self, edge: Edge, config: RunConfig, progress: BatchProgress, shutdown: Shutdown
    ) -> None:
        self._edge, self._config, self._progress = edge, config, progress
        self._shutdown = shutdown
        self._relay = Relay()
        self._ready: deque[PlannedSession] = deque()
        self._runs: dict[str, SessionRun] = {}
        self._mine: set[str] = set()
        self._submitting: set[str] = set()
        self._due: list[tuple[float, int, SessionRun]] = []
        self._order = itertools.count()
        self._room = threading.Semaphore(DRAWN_AHEAD)
        self._is_listing, self._is_closed = True, False
        self._breaker = CircuitBreaker(edge.clock)

    def run(self, sessions: Generator[PlannedSession, None, None]) -> None:
        """Run all sessions to their end, or until the user wants to leave.

        Raises:
            EdgeError: What concerns every session, or the listing; only after the jobs in flight
                have ended.
        """
        self._pool = Pool(THREADS)
        threading.Thread(target=self._feed, args=(sessions,), name="feeder", daemon=True).start()
        try:
            while not self._is_over():
                self._start_what_fits()
                self._step_what_is_due()
                self._relay.run(self._until_due_s())
        finally:
            self._is_closed = True
            self._room.release()
            self._pool.close()
        for run in list(self._runs.values()):
            self._put_back(run, "its job goes on")
        if self._breaker.error is not None:
            raise self._breaker.error

    def _feed(self, sessions: Generator[PlannedSession, None, None]) -> None:
        """Draw sessions, in a thread, until there are no more or the batch is over."""
        try:
            with closing(sessions):
                for planned in sessions:
                    self._relay.call(self._listed, planned)
                    self._room.acquire()
                    if self._is_closed:
                        return
            self._relay.call(self._listing_ended, None)
        except EdgeError as exc:
            self._relay.call(self._listing_ended, exc)
        except Exception as exc:  # a bug must end the batch, not stall it
            self._relay.call(_raise, exc)

    @property
    def _submits(self) -> bool:
        """Whether the batch may still submit something."""
        return self._shutdown.level is ShutdownLevel.NONE and self._breaker.error is None

    def _is_over(self) -> bool:
        if self._shutdown.level is ShutdownLevel.LEAVE_NOW:
            return True
        if self._shutdown.level is ShutdownLevel.LEAVE_SOON:
            return not self._submitting or self._shutdown.for_s() > DRAIN_S
        is_waiting = self._submits and (self._is_listing or self._ready)
        return not is_waiting and not self._runs

    def _until_due_s(self) -> float:
        if not self._due:
            return LOOK_S
        return min(LOOK_S, max(0.0, self._due[0][0] - self._edge.clock.monotonic()))

    def _start_what_fits(self) -> None:
        while self._ready and self._submits and self._fits(self._ready[0]):
            planned = self._ready.popleft()
            self._room.release()
            prefix = planned.session.prefix
            if prefix not in self._runs:
                run = SessionRun(self._edge, planned, self._config, self._relay, self._progress)
                self._runs[prefix] = run
                self._step(run)

    def _fits(self, planned: PlannedSession) -> bool:
        mine = len(self._mine)
        if planned.action is PlannedAction.FOLLOW:
            return len(self._runs) - mine < FOLLOWED_AT_MOST
        return mine < self._config.max_in_flight and self._may_submit()

    def _may_submit(self) -> bool:
        return len(self._submitting) < SUBMITTING_AT_MOST and not self._breaker.is_pausing

    def _step_what_is_due(self) -> None:
        now_s = self._edge.clock.monotonic()
        while self._due and self._due[0][0] <= now_s:
            run = heapq.heappop(self._due)[2]
            if not run.plans_submission or self._may_submit():
                self._step(run)
            else:
                self._step_in(run, 0.5)

    def _step_in(self, run: SessionRun, pause_s: float) -> None:
        at_s = self._edge.clock.monotonic() + pause_s
        heapq.heappush(self._due, (at_s, next(self._order), run))

    def _step(self, run: SessionRun) -> None:
        """Have a thread make the next step, unless it would submit and nothing is any more."""
        prefix = run.session.prefix
        if run.plans_submission:
            if not self._submits:
                self._put_back(run, "its next submission is left to the next batch")
                return
            self._submitting.add(prefix)
        if run.is_mine:
            self._mine.add(prefix)
        self._pool.do(lambda: self._make_step(run))

    def _make_step(self, run: SessionRun) -> None:
        """Make a step, in a thread, and relay what came of it."""
        try:
            self._relay.call(self._stepped, run, run.step())
        except EdgeError as exc:
            self._relay.call(self._step_failed, run, exc)
        except Exception as exc:  # a bug must end the batch, not stall it
            self._relay.call(_raise, exc)

    def _listed(self, planned: PlannedSession) -> None:
        self._progress.stats.listed(planned)
        if planned.action.is_work:
            self._ready.append(planned)
            return
        self._room.release()
        if planned.action is not PlannedAction.DONE:
            record = record_without_end(planned.session, planned.action, planned.why)
            self._progress.ended(record)

    def _listing_ended(self, exc: EdgeError | None) -> None:
        self._is_listing = False
        if exc is None:
            self._progress.stats.is_listing = False
        else:
            self._breaker.open(exc)

    def _stepped(self, run: SessionRun, seen: float | End) -> None:
        was_submission = self._take_back(run)
        run.away_since_s = None
        if was_submission:
            self._breaker.reset()
        if isinstance(seen, End):
            self._end(record_end(run.session, seen))
        else:
            self._step_in(run, seen)

    def _step_failed(self, run: SessionRun, exc: EdgeError) -> None:
        """Make the step again where time can help; else give the session up for this run."""
        was_submission = self._take_back(run)
        now_s = self._edge.clock.monotonic()
        if isinstance(exc, Unreachable | RateLimited):
            if run.away_since_s is None:
                run.away_since_s = now_s
                self._progress.note(f"{run.session}: {exc}; trying again")
            if was_submission:
                self._breaker.pause(PAUSE_S)
            if now_s - run.away_since_s < PATIENCE_S:
                self._step_in(run, PAUSE_S)
                return
        self._breaker.count(exc, was_submission)
        claim = None if was_submission else run.claim
        result = FAILED if claim is None else IN_FLIGHT
        self._end(record_without_end(run.session, result, str(exc), claim=claim, code=exc.code))

    def _take_back(self, run: SessionRun) -> bool:
        """Take a session back from its thread; return whether it submitted, or tried to."""
        prefix, claim = run.session.prefix, run.claim
        if not run.is_mine:
            self._mine.discard(prefix)
        if claim is not None and claim.request_id != run.shown_request:
            run.shown_request = claim.request_id
            self._progress.submitted(run.session, claim)
        was_submission = prefix in self._submitting
        self._submitting.discard(prefix)
        return was_submission

    def _put_back(self, run: SessionRun, message: str) -> None:
        """Let go of a session that the next batch finds as it is."""
        if run.claim is None:
            self._forget(run.session.prefix)
            return
        self._end(record_without_end(run.session, IN_FLIGHT, message, claim=run.claim))

    def _end(self, record: Record) -> None:
        self._forget(record.session)
        self._progress.ended(record)

    def _forget(self, prefix: str) -> None:
        self._runs.pop(prefix, None)
        self._mine.discard(prefix)
        self._submitting.discard(prefix)

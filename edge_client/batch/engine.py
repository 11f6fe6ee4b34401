"""Many sessions at once: submits what the listing brings, and pursues every job to its end.

Takes `Item`s; tells a `BatchView` what becomes of each. One thread decides; a feeder draws from
the listing, a pool speaks to S3 and RunPod. What they learn comes back through one
`Relay`, so neither the decisions nor the view need a lock. Memory holds what is in hand: at most
``max_in_flight`` jobs of this box, `FOLLOWED_AT_MOST` of others, and `DRAWN_AHEAD` sessions.

Carries what threads learn to the one thread that decides and shows.

Draws from the listing in a thread of its own, not further ahead than there is room for.

Ctrl-C and SIGTERM: how a batch is asked to end.

One Ctrl-C stops submitting and waits for the jobs that are out; another leaves at once. SIGTERM
(systemd's, or `kill`) leaves too, but first lets submissions that are under way get their answer.
Nothing is lost by any of them: claims in S3 say what is out, and the next batch goes on.

One session in a batch: claimed and submitted, or found out, and then pursued.

A `Task` is stepped by one thread at a time, any of them.

What keeps a batch from submitting: for a while, or for good.

Daemon threads that do what they are given: leaving at once never waits for a slow server.
"""

from __future__ import annotations

import heapq
import itertools
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from queue import Empty, SimpleQueue
from types import FrameType

from edge_client.batch import results as records
from edge_client.batch.types import BatchView, Item, Need, Record
from edge_client.clock import Clock
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    ClaimConflict,
    EdgeError,
    EndpointNotFound,
    NotConfigured,
    RateLimited,
    RunpodError,
    StorageRefused,
    Unauthorized,
    Unreachable,
)
from edge_client.jobs import claim as claims
from edge_client.jobs import submit as posting
from edge_client.jobs.claim import Claim, StoredClaim, Wanted
from edge_client.jobs.poll import JobProgress, PollInterval, View
from edge_client.jobs.reconcile import End, Reconciler
from edge_client.jobs.submit import cancel_replaced_job
from edge_client.services.edge import Edge
from edge_client.session import Session


class Relay:
    """Deeds, in the order in which they were told."""

    def __init__(self) -> None:
        self._deeds: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def tell(self, deed: Callable[..., None], *values: object) -> None:
        """Have the deciding thread do something. From any thread, or a signal's handler."""
        self._deeds.put(lambda: deed(*values))

    def fail(self, exc: Exception) -> None:
        """Have the deciding thread raise: a bug must end the batch, not stall it."""
        self.tell(_raise, exc)

    def take(self, wait_s: float) -> None:
        """Wait for the next deed, so long at most; then do all there are."""
        with suppress(Empty):
            self._deeds.get(timeout=wait_s)()
            while True:
                self._deeds.get_nowait()()


class SessionView:
    """Shows what is seen of one session, from the thread that shows. A `follow.View`."""

    def __init__(self, relay: Relay, view: BatchView, session: Session) -> None:
        self._relay, self._view, self._session = relay, view, session

    def show(self, glimpse: JobProgress) -> None:
        """Take what a poll saw."""
        self._relay.tell(self._view.show, self._session, glimpse)

    def note(self, message: str) -> None:
        """Tell the user something, under the session's name."""
        self._relay.tell(self._view.note, f"{self._session}: {message}")


def _raise(exc: Exception) -> None:
    raise exc


class Feeder:
    """A thread that draws items until there are no more, or `stop` is called.

    Args:
        items: A generator; closed by the thread that drew from it.
        room: So many items may be drawn and not yet taken up (`make_room`).
        relay: To the thread that takes them.
        arrived: Given each item.
        ended: Given None at the end, or why the listing broke.
    """

    def __init__(
        self,
        items: Iterator[Item],
        room: int,
        relay: Relay,
        arrived: Callable[[Item], None],
        ended: Callable[[EdgeError | None], None],
    ) -> None:
        self._items, self._relay, self._arrived, self._ended = items, relay, arrived, ended
        self._room = threading.Semaphore(room)
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="feeder", daemon=True).start()

    def make_room(self) -> None:
        """Let one more item be drawn."""
        self._room.release()

    def stop(self) -> None:
        """Draw no more."""
        self._stopped.set()
        self._room.release()

    def _run(self) -> None:
        try:
            self._draw()
        except EdgeError as exc:
            self._relay.tell(self._ended, exc)
        except Exception as exc:  # a bug must end the batch, not stall it
            self._relay.fail(exc)

    def _draw(self) -> None:
        try:
            for item in self._items:
                self._relay.tell(self._arrived, item)
                self._room.acquire()
                if self._stopped.is_set():
                    return
        finally:
            close = getattr(self._items, "close", None)  # a generator ends its own threads
            if close is not None:
                close()
        self._relay.tell(self._ended, None)


class Wish(IntEnum):
    """What the user wants of the batch; it only ever grows."""

    GO_ON = 0
    SUBMIT_NO_MORE = 1
    LEAVE_SOON = 2
    LEAVE_NOW = 3


class Stopping:
    """The user's wish, as the signals so far tell it."""

    def __init__(self) -> None:
        self.wish = Wish.GO_ON
        self._since = time.monotonic()
        self._nudge: Callable[[], None] = lambda: None

    def on_change(self, nudge: Callable[[], None]) -> None:
        """Have ``nudge`` called at every change; it must be safe in a signal handler."""
        self._nudge = nudge

    def ask(self, wish: Wish) -> None:
        """Take a wish; a lesser one than before changes nothing."""
        if wish > self.wish:
            self.wish, self._since = wish, time.monotonic()
            self._nudge()

    def for_s(self) -> float:
        """Return for how long the user has wanted it, in seconds."""
        return time.monotonic() - self._since

    @contextmanager
    def by_signals(self) -> Iterator[None]:
        """Listen to SIGINT and SIGTERM; afterwards they do what they did before."""
        before = {
            signal.SIGINT: signal.signal(signal.SIGINT, self._interrupted),
            signal.SIGTERM: signal.signal(signal.SIGTERM, self._terminated),
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        again = self.wish is not Wish.GO_ON
        self.ask(Wish.LEAVE_NOW if again else Wish.SUBMIT_NO_MORE)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.ask(Wish.LEAVE_SOON)


@dataclass(frozen=True)
class Terms:
    """How a batch is run.

    Attributes:
        wanted: What is asked of every job.
        pace: How often a job is looked at.
        max_in_flight: Jobs of this box that are out at once.
    """

    wanted: Wanted
    pace: Callable[[Claim], PollInterval]
    max_in_flight: int = 100


@dataclass
class Task:
    """One session's way through a batch.

    Attributes:
        view: Shows what is seen of the session.
        mine: This run submits its job; it is not another box's.
    """

    edge: Edge
    item: Item
    terms: Terms
    view: View
    mine: bool = field(init=False)
    _reconciler: Reconciler | None = None
    _held: StoredClaim | None = None
    _tried: bool = False

    def __post_init__(self) -> None:
        self.mine = self.item.need is Need.SUBMIT
        self._held = self.item.held

    @property
    def session(self) -> Session:
        """Which session it is."""
        return self.item.session

    @property
    def claim(self) -> Claim | None:
        """The submission that is pursued; None while none is out."""
        return None if self._reconciler is None else self._reconciler.claim

    @property
    def plans_submission(self) -> bool:
        """Whether the next step posts a job."""
        if self._reconciler is None:
            return self.item.need is Need.SUBMIT
        return self._reconciler.plans_submission

    def step(self) -> End | float:
        """Do what is due; return the end, or the seconds until the next step.

        Raises:
            EdgeError: As `Reconciler.step` and `posting.submit_job`. The step can be made again.
        """
        if self._reconciler is not None:
            return self._reconciler.step()
        claim = self._followed() if self.item.need is Need.FOLLOW else self._submitted()
        self._reconciler = Reconciler(self.edge, self.session, claim, self.view, self.terms.pace)
        return self.terms.pace(claim).next_s() if self.mine else 0.0

    def _followed(self) -> Claim:
        if self._held is None or self._held.claim is None:
            raise AssertionError("what is followed has a claim")
        return self._held.claim

    def _submitted(self) -> Claim:
        """Claim the session and post its job; where another box was faster, take its claim."""
        if self._tried:  # an earlier try claimed, and let go; another box may have claimed since
            self._held = claims.read(self.edge.bucket, self.session)
            claim = self._held.claim if self._held is not None else None
            if claim is not None and claim.is_alive(self.edge.clock.now()):
                self.mine = False
                return claim
        self._tried = True
        try:
            return self._posted(self._held)
        except AnswerLost as exc:
            self.view.note(str(exc))
            return self._claim_now(exc)
        except ClaimConflict as exc:
            self.mine = False
            return self._claim_now(exc)

    def _posted(self, held: StoredClaim | None) -> Claim:
        audio = self.item.audio
        if audio is None or audio.size_bytes == 0:
            raise AudioNotFound(f"the recording {self.session.audio_key} is empty, or gone")
        if held is not None and held.claim is not None:
            cancel_replaced_job(self.edge, held.claim, self.view.note)
        task = posting.Task(self.terms.wanted, self.view.note)
        return posting.submit_job(self.edge, self.session, audio, held, task)

    def _claim_now(self, cause: EdgeError) -> Claim:
        held = claims.read(self.edge.bucket, self.session)
        if held is None or held.claim is None:
            raise cause
        return held.claim


PATIENCE_S = 300.0
"""So long may S3 or RunPod be away before a session is given up for this run."""
ALIKE_AT_MOST = 10
"""So many sessions may be refused in a row, for one reason, before no more are submitted."""
_AT_ONCE = (NotConfigured, Unauthorized, EndpointNotFound)
"""What concerns every session, not one."""
_IN_THE_END = (StorageRefused, RunpodError, Unreachable, RateLimited)


class Troubles:
    """Counts refusals.

    Attributes:
        fatal: Why nothing is submitted any more.
    """

    patience_s = PATIENCE_S

    def __init__(self, clock: Clock) -> None:
        self.fatal: EdgeError | None = None
        self._clock = clock
        self._not_before = clock.monotonic()
        self._alike, self._last = 0, ""

    @property
    def is_pausing(self) -> bool:
        """Whether a service was away a moment ago."""
        return self._clock.monotonic() < self._not_before

    def pause(self, pause_s: float) -> None:
        """Submit nothing for so long."""
        self._not_before = self._clock.monotonic() + pause_s

    def stop(self, exc: EdgeError) -> None:
        """Submit nothing any more."""
        self.fatal = self.fatal or exc

    def count(self, exc: EdgeError, was_submission: bool) -> None:
        """Take a refusal that a session was given up for."""
        if isinstance(exc, _AT_ONCE) or (was_submission and isinstance(exc, Unreachable)):
            self.stop(exc)
        elif was_submission and isinstance(exc, _IN_THE_END):
            self._alike = self._alike + 1 if exc.code == self._last else 1
            self._last = exc.code
            if self._alike >= ALIKE_AT_MOST:
                self.stop(exc)

    def forget(self) -> None:
        """Know that a submission went through."""
        self._alike = 0


class Pool:
    """A fixed number of threads, ended by `close`.

    Args:
        threads: How many.
    """

    def __init__(self, threads: int) -> None:
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = threads
        for number in range(threads):
            threading.Thread(target=self._run, name=f"batch-{number}", daemon=True).start()

    def do(self, work: Callable[[], None]) -> None:
        """Have a thread do ``work``, which must not raise."""
        self._work.put(work)

    def close(self) -> None:
        """Let the threads end once they are done with what they have."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()


THREADS = 16
SUBMITTING_AT_MOST = 8
"""The other threads are left to the jobs that are out: RunPod may make submissions wait."""
FOLLOWED_AT_MOST = 2_000
DRAWN_AHEAD = 500
PAUSE_S = 15.0
"""Before a service that is away is asked again."""
DRAIN_S = 10.0
"""So long may submissions that are under way take when the batch has to leave soon."""


@dataclass(eq=False)
class _InHand:
    """A session that is worked on.

    Attributes:
        told: The request that the view knows of.
        away_since: When a service first did not answer; None while all do.
    """

    task: Task
    told: str = ""
    away_since: float | None = None


class Engine:
    """One run over a bucket, made for it.

    Args:
        edge: Settings and services.
        terms: How it is run.
        view: Told everything, from the thread that calls `run`.
        stopping: What the user wants meanwhile.
    """

    def __init__(self, edge: Edge, terms: Terms, view: BatchView, stopping: Stopping) -> None:
        self._edge, self._terms, self._view, self._stopping = edge, terms, view, stopping
        self._relay = Relay()
        self._ready: deque[Item] = deque()
        self._in_hand: dict[str, _InHand] = {}
        self._mine: set[str] = set()
        self._submitting: set[str] = set()
        self._due: list[tuple[float, int, _InHand]] = []
        self._order = itertools.count()
        self._listing = True
        self._troubles = Troubles(edge.clock)

    def run(self, items: Iterator[Item]) -> None:
        """Work through ``items`` until all are done with, or the user wants to leave.

        Raises:
            EdgeError: What concerns every session, or the listing; only after the jobs that are
                out have ended.
        """
        self._pool = Pool(THREADS)
        self._feeder = Feeder(items, DRAWN_AHEAD, self._relay, self._arrived, self._listed)
        self._stopping.on_change(lambda: self._relay.tell(lambda: None))
        try:
            while not self._is_over():
                self._start_what_fits()
                self._step_what_is_due()
                self._take_news()
        finally:
            self._feeder.stop()
            self._pool.close()
        self._leave()
        if self._troubles.fatal is not None:
            raise self._troubles.fatal

    @property
    def _submits(self) -> bool:
        """Whether the batch may still submit something."""
        return self._stopping.wish is Wish.GO_ON and self._troubles.fatal is None

    def _is_over(self) -> bool:
        if self._stopping.wish is Wish.LEAVE_NOW:
            return True
        if self._stopping.wish is Wish.LEAVE_SOON:
            return not self._submitting or self._stopping.for_s() > DRAIN_S
        waits = self._submits and (self._listing or self._ready)
        return not waits and not self._in_hand

    def _start_what_fits(self) -> None:
        while self._ready and self._submits and self._fits(self._ready[0]):
            item = self._ready.popleft()
            self._feeder.make_room()
            prefix = item.session.prefix
            if prefix not in self._in_hand:
                task = Task(
                    self._edge,
                    item,
                    self._terms,
                    SessionView(self._relay, self._view, item.session),
                )
                self._in_hand[prefix] = hand = _InHand(task)
                self._step(hand)

    def _fits(self, item: Item) -> bool:
        if item.need is Need.FOLLOW:
            return len(self._in_hand) - len(self._mine) < FOLLOWED_AT_MOST
        return len(self._mine) < self._terms.max_in_flight and self._may_submit()

    def _may_submit(self) -> bool:
        return len(self._submitting) < SUBMITTING_AT_MOST and not self._troubles.is_pausing

    def _step_what_is_due(self) -> None:
        now = self._edge.clock.monotonic()
        while self._due and self._due[0][0] <= now:
            hand = heapq.heappop(self._due)[2]
            if not hand.task.plans_submission or self._may_submit():
                self._step(hand)
            else:
                self._again(hand, 0.5)

    def _step(self, hand: _InHand) -> None:
        """Have a thread make the next step, unless it would submit and nothing is any more."""
        prefix = hand.task.session.prefix
        if hand.task.plans_submission:
            if not self._submits:
                self._put_back(hand, "its next submission is left to the next batch")
                return
            self._submitting.add(prefix)
        if hand.task.mine:
            self._mine.add(prefix)
        self._pool.do(lambda: self._work(hand))

    def _work(self, hand: _InHand) -> None:
        """Make a step, in a thread, and tell what came of it."""
        try:
            self._relay.tell(self._stepped, hand, hand.task.step())
        except EdgeError as exc:
            self._relay.tell(self._refused, hand, exc)
        except Exception as exc:  # a bug must end the batch, not stall it
            self._relay.fail(exc)

    def _again(self, hand: _InHand, pause_s: float) -> None:
        at = self._edge.clock.monotonic() + pause_s
        heapq.heappush(self._due, (at, next(self._order), hand))

    def _take_news(self) -> None:
        """Wait for news, at most until something is due."""
        wait_s = 1.0
        if self._due:
            wait_s = min(wait_s, max(0.0, self._due[0][0] - self._edge.clock.monotonic()))
        self._relay.take(wait_s)

    def _arrived(self, item: Item) -> None:
        self._view.listed(item)
        if item.need.is_work:
            self._ready.append(item)
            return
        self._feeder.make_room()
        if item.need is not Need.DONE:
            self._view.ended(records.of_item(item, self._edge.clock.now()))

    def _listed(self, exc: EdgeError | None) -> None:
        self._listing = False
        if exc is None:
            self._view.listing_ended()
        else:
            self._troubles.stop(exc)

    def _stepped(self, hand: _InHand, seen: float | End) -> None:
        was_submission = self._took(hand)
        hand.away_since = None
        if was_submission:
            self._troubles.forget()
        if isinstance(seen, End):
            self._end(hand, records.of_end(hand.task.session, seen, self._edge.clock.now()))
        else:
            self._again(hand, seen)

    def _took(self, hand: _InHand) -> bool:
        """Take a session back from its thread; return whether it submitted, or tried to."""
        task, prefix = hand.task, hand.task.session.prefix
        if not task.mine:
            self._mine.discard(prefix)
        claim = task.claim
        if claim is not None and claim.request_id != hand.told:
            hand.told = claim.request_id
            self._view.submitted(task.session, claim)
        submitted = prefix in self._submitting
        self._submitting.discard(prefix)
        return submitted

    def _refused(self, hand: _InHand, exc: EdgeError) -> None:
        """Try again later what time can mend; give the session up, for this run, if not."""
        was_submission = self._took(hand)
        now = self._edge.clock.monotonic()
        if isinstance(exc, Unreachable | RateLimited):
            if hand.away_since is None:
                hand.away_since = now
                self._view.note(f"{hand.task.session}: {exc}; trying again")
            if was_submission:
                self._troubles.pause(PAUSE_S)
            if now - hand.away_since < self._troubles.patience_s:
                self._again(hand, PAUSE_S)
                return
        self._troubles.count(exc, was_submission)
        claim = None if was_submission else hand.task.claim
        self._end(hand, records.of_error(hand.task.session, claim, exc, self._edge.clock.now()))

    def _put_back(self, hand: _InHand, message: str) -> None:
        """Let go of a session that the next batch finds as it is."""
        claim, session = hand.task.claim, hand.task.session
        if claim is not None:
            self._end(hand, records.of_left(session, claim, message, self._edge.clock.now()))
        else:
            self._forget(session.prefix)

    def _end(self, hand: _InHand, record: Record) -> None:
        self._forget(record.session)
        self._view.ended(record)

    def _forget(self, prefix: str) -> None:
        self._in_hand.pop(prefix, None)
        self._mine.discard(prefix)
        self._submitting.discard(prefix)

    def _leave(self) -> None:
        """Say of what is still in hand that it goes on."""
        for hand in list(self._in_hand.values()):
            self._put_back(hand, "its job goes on")

"""Many sessions at once: submits what the listing brings, and pursues every job to its end.

Takes `Item`s; tells a `BatchView` what becomes of each. One thread decides; a feeder draws from
the listing, a pool speaks to S3 and RunPod. What they learn comes back through one
`Relay`, so neither the decisions nor the view need a lock. Memory holds what is in hand: at most
``max_in_flight`` jobs of this box, `FOLLOWED_AT_MOST` of others, and `DRAWN_AHEAD` sessions.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from edge_client.batch import records
from edge_client.batch.feeder import Feeder
from edge_client.batch.pool import Pool
from edge_client.batch.relay import Relay, SessionView
from edge_client.batch.stopping import Stopping, Wish
from edge_client.batch.task import Task, Terms
from edge_client.batch.troubles import Troubles
from edge_client.batch.values import BatchView, Item, Need, Record
from edge_client.edge import Edge
from edge_client.errors import EdgeError, RateLimited, Unreachable
from edge_client.pursuit import End

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

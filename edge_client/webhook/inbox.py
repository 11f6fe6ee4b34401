"""The sessions that RunPod called about, and the threads that finish them.

The queue is bounded and holds each session once. Nothing is kept on disk: what a crash loses here
is still in the claims, where `edge-client batch` or `wait` finds it.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable

from edge_client.errors import EdgeError
from edge_client.session import Session
from edge_client.webhook.finisher import Finisher, named

log = logging.getLogger(__name__)


class Inbox:
    """A queue of sessions for several threads; no two of them get the same session at once.

    Its capacity counts the sessions at work, too.
    """

    def __init__(self, capacity: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._capacity, self._monotonic = capacity, monotonic
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._due: list[tuple[float, int, Session]] = []
        self._waiting: set[Session] = set()
        self._at_work: set[Session] = set()
        self._called_again: set[Session] = set()
        self._closed = False

    def offer(self, session: Session) -> bool:
        """Take a session in; False if there is no room.

        One that waits already, be it for its next try, keeps its place. One that is at work comes
        again afterwards: what it was called about may have happened after the look at it.
        """
        with self._changed:
            if session in self._waiting:
                return True
            if session in self._at_work:
                self._called_again.add(session)
                return True
            if self._closed or len(self._waiting) + len(self._at_work) >= self._capacity:
                return False
            self._enter(session, 0.0)
            return True

    def take(self) -> Session | None:
        """Wait for a session that is due; None once the inbox is closed."""
        with self._changed:
            while not self._closed:
                left_s = self._due[0][0] - self._monotonic() if self._due else None
                if left_s is not None and left_s <= 0:
                    session = heapq.heappop(self._due)[2]
                    self._waiting.remove(session)
                    self._at_work.add(session)
                    return session
                self._changed.wait(left_s)
        return None

    def release(self, session: Session, again_in_s: float | None = None) -> None:
        """Give back what `take` gave, to be taken again after so many seconds; None: never."""
        with self._changed:
            self._at_work.remove(session)
            if session in self._called_again:
                self._called_again.remove(session)
                again_in_s = again_in_s or 0.0
            if again_in_s is not None:
                self._enter(session, again_in_s)

    def close(self) -> int:
        """End all `take`; return how many sessions nobody will take any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return len(self._waiting)

    def _enter(self, session: Session, in_s: float) -> None:
        self._waiting.add(session)
        heapq.heappush(self._due, (self._monotonic() + in_s, next(self._order), session))
        self._changed.notify_all()  # each takes it, or learns how long to sleep for it


class Settlers:
    """A fixed number of threads that take sessions from an inbox and have them finished."""

    def __init__(self, inbox: Inbox, finisher: Finisher, count: int) -> None:
        self._inbox, self._finisher = inbox, finisher
        self._threads = [
            threading.Thread(target=self._work, name=f"settler-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, grace_s: float) -> int:
        """Wait until each has finished its session; return how many are still at work.

        A thread that takes longer than ``grace_s`` dies with the process, which harms no more
        than a power cut would: S3 has the ledger.
        """
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (session := self._inbox.take()) is not None:
            self._inbox.release(session, self._finish(session))

    def _finish(self, session: Session) -> float | None:
        """Return after how many seconds to finish it again; None if it is over."""
        try:
            return self._finisher.finish(session)
        except EdgeError as exc:
            log.warning("%s: %s", named(session), exc)
        except Exception:
            # one session's surprise must not end the thread, and with it all others' callbacks
            log.exception("%s: unexpected, please report it", named(session))
        return None

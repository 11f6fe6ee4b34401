"""A queue of keys with due times, for threads.

Takes a function that does what is due for a key and returns after how many seconds it is due again,
None if it is over. Bounded; holds each key once; no two threads work on one key. Kept in memory
alone: what a crash loses here is in the claims.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from edge_client.clock import Clock

log = logging.getLogger(__name__)
K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys in the order in which they are due by a clock, ``capacity`` at most with those at work.

    A surprise that ``work`` raises is logged, and ends its key alone.
    """

    def __init__(
        self, work: Callable[[K], float | None], clock: Clock | None = None, capacity: int = 10_000
    ) -> None:
        self._work, self._clock, self._capacity = work, clock or Clock(), capacity
        self._changed = threading.Condition()
        self._order = itertools.count()
        self._due: list[tuple[float, int, K]] = []
        self._waiting: set[K] = set()
        self._at_work: set[K] = set()
        self._again: set[K] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def add(self, key: K) -> bool:
        """Take a key in, due at once; False if there is no room.

        One that waits already keeps its time. One that is at work comes again afterwards: what it
        was added for may have happened after the look at it.
        """
        with self._changed:
            if key in self._waiting:
                return True
            if key in self._at_work:
                self._again.add(key)
                return True
            if self._closed or len(self._waiting) + len(self._at_work) >= self._capacity:
                return False
            self._enter(key, 0.0)
            return True

    def start(self, threads: int, name: str = "work") -> None:
        """Have so many daemon threads work: leaving at once waits for no slow server."""
        for number in range(threads):
            thread = threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def close(self) -> int:
        """Begin nothing more; return how many keys wait for what will not come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return len(self._waiting)

    def join(self, grace_s: float) -> int:
        """Wait until threads have finished what they are at; return how many have not.

        A thread that takes longer than ``grace_s`` dies with the process, which harms no more
        than a power cut would: S3 has the ledger.
        """
        deadline_s = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _run(self) -> None:
        while (key := self._take()) is not None:
            self._do(key)

    def _take(self) -> K | None:
        """Wait for a key that is due; None once the queue is closed."""
        with self._changed:
            while not self._closed:
                left_s = self._due[0][0] - self._clock.monotonic() if self._due else None
                if left_s is not None and left_s <= 0:
                    key = heapq.heappop(self._due)[2]
                    self._waiting.remove(key)
                    self._at_work.add(key)
                    self._changed.notify()  # whoever sleeps next, sleeps until the next key
                    return key
                self._changed.wait(left_s)
        return None

    def _do(self, key: K) -> None:
        again_in_s: float | None = None
        try:
            again_in_s = self._work(key)
        except Exception:
            log.exception("%s: unexpected, please report it", str(key)[:300])
        with self._changed:
            self._at_work.remove(key)
            if key in self._again:
                self._again.remove(key)
                again_in_s = again_in_s or 0.0
            if again_in_s is not None:
                self._enter(key, again_in_s)

    def _enter(self, key: K, in_s: float) -> None:
        self._waiting.add(key)
        heapq.heappush(self._due, (self._clock.monotonic() + in_s, next(self._order), key))
        self._changed.notify()  # one takes it, or learns how long to sleep for it

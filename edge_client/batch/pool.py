"""Daemon threads that do what they are given: leaving at once never waits for a slow server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue


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

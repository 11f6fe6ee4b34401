"""Ctrl-C and SIGTERM: how a batch is asked to end.

One Ctrl-C stops submitting and waits for the jobs that are out; another leaves at once. SIGTERM
(systemd's, or `kill`) leaves too, but first lets submissions that are under way get their answer.
Nothing is lost by any of them: claims in S3 say what is out, and the next batch goes on.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType


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

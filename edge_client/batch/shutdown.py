"""What ends a batch early: the user's signals, and services that refuse every session.

Takes SIGINT and SIGTERM, and the errors for which sessions were given up; the engine asks before
each submission. Raises nothing itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType

from edge_client import errors
from edge_client.clock import Clock
from edge_client.errors import EdgeError, Unreachable

ALIKE_AT_MOST = 10
"""So many sessions may be refused in a row, for one reason, before no more are submitted."""
_CONCERNS_ALL = (errors.NotConfigured, errors.Unauthorized, errors.EndpointNotFound)
_MAY_CONCERN_ALL = (errors.StorageRefused, errors.RunpodError, Unreachable, errors.RateLimited)


class ShutdownLevel(IntEnum):
    """How urgently the user wants the batch to end; it only ever rises."""

    NONE = 0
    SUBMIT_NO_MORE = 1
    LEAVE_SOON = 2
    LEAVE_NOW = 3


class Shutdown:
    """The end that the user asks for, by signals.

    One Ctrl-C stops submitting and waits for the jobs in flight; another leaves at once. SIGTERM
    lets submissions in progress get their answer, then leaves. The next batch goes on.
    """

    def __init__(self) -> None:
        self.level = ShutdownLevel.NONE
        self._since_s = time.monotonic()

    def request(self, level: ShutdownLevel) -> None:
        """Raise the level; a lower one than before changes nothing."""
        if level > self.level:
            self.level, self._since_s = level, time.monotonic()

    def for_s(self) -> float:
        """Return since how many seconds the level has been what it is."""
        return time.monotonic() - self._since_s

    @contextmanager
    def on_signals(self) -> Iterator[None]:
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
        is_first = self.level is ShutdownLevel.NONE
        self.request(ShutdownLevel.SUBMIT_NO_MORE if is_first else ShutdownLevel.LEAVE_NOW)

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        self.request(ShutdownLevel.LEAVE_SOON)


class CircuitBreaker:
    """Keeps a batch from submitting: for a while, or for good.

    Attributes:
        error: Why nothing is submitted any more; None while it is.
    """

    def __init__(self, clock: Clock) -> None:
        self.error: EdgeError | None = None
        self._clock = clock
        self._closed_at_s = clock.monotonic()
        self._alike, self._last_code = 0, ""

    @property
    def is_pausing(self) -> bool:
        """Whether a service did not answer a moment ago."""
        return self._clock.monotonic() < self._closed_at_s

    def pause(self, pause_s: float) -> None:
        """Submit nothing for so long."""
        self._closed_at_s = self._clock.monotonic() + pause_s

    def open(self, exc: EdgeError) -> None:
        """Submit nothing any more."""
        self.error = self.error or exc

    def count(self, exc: EdgeError, was_submission: bool) -> None:
        """Take an error for which a session was given up."""
        if isinstance(exc, _CONCERNS_ALL) or (was_submission and isinstance(exc, Unreachable)):
            self.open(exc)
        elif was_submission and isinstance(exc, _MAY_CONCERN_ALL):
            self._alike = self._alike + 1 if exc.code == self._last_code else 1
            self._last_code = exc.code
            if self._alike >= ALIKE_AT_MOST:
                self.open(exc)

    def reset(self) -> None:
        """Know that a submission went through."""
        self._alike = 0

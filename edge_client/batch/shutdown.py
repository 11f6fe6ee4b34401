"""What ends a batch early: the user's signals, services that refuse all, an endpoint that fails.

Takes SIGINT and SIGTERM, the errors for which sessions were given up, and how jobs ended; the
engine asks before each submission. Raises nothing itself.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

from edge_client import errors
from edge_client.clock import Clock
from edge_client.errors import EdgeError, EndpointFails, Unreachable
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.retry_policy import is_endpoints_fault

ALIKE_AT_MOST = 10
"""So many sessions may be refused in a row, for one reason, before no more are submitted."""
PROBE_AFTER_S = 60.0
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
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._take) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _: object) -> None:
        if number == signal.SIGTERM:
            self.request(ShutdownLevel.LEAVE_SOON)
        else:
            is_first = self.level is ShutdownLevel.NONE
            self.request(ShutdownLevel.SUBMIT_NO_MORE if is_first else ShutdownLevel.LEAVE_NOW)


class CircuitBreaker:
    """Keeps a batch from submitting: for a while, or for good.

    `ALIKE_AT_MOST` jobs in a row, of whatever sessions, that end in a way that speaks against the
    endpoint open it. After `PROBE_AFTER_S` one more is submitted: if it ends well, all go on.
    ``error`` says why nothing is submitted any more, ``doubt`` why it waits for that one job; None
    while it is submitted.
    """

    def __init__(self, clock: Clock) -> None:
        self.error: EdgeError | None = None
        self.doubt: EndpointFails | None = None
        self._clock = clock
        self._closed_at_s = clock.monotonic()
        self._alike, self._last_code = 0, ""
        self._bad_ends: Counter[str] = Counter()
        self._probe = ""

    @property
    def may_submit(self) -> bool:
        """Whether a submission can be made now."""
        is_time = self._clock.monotonic() >= self._closed_at_s
        return self.error is None and is_time and not (self.doubt and self._probe)

    def pause(self, pause_s: float) -> None:
        """Submit nothing for so long."""
        self._closed_at_s = max(self._closed_at_s, self._clock.monotonic() + pause_s)

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

    def submits(self, session: str) -> None:
        """Know that a session's job is about to be posted."""
        if self.doubt:
            self._probe = session

    def submitted(self) -> None:
        """Know that a submission went through."""
        self._alike = 0

    def left(self, session: str) -> None:
        """Know that a session came to no end that says anything: another can be the probe."""
        if session == self._probe:
            self._probe = ""

    def ended(self, session: str, outcome: Outcome) -> str | None:
        """Take a job's end; return the line to say when it opens, or opens for good."""
        if not is_endpoints_fault(outcome.reason):
            if outcome.transcript is not None or session == self._probe:
                self._bad_ends.clear()
                self.doubt, self._probe = None, ""
            return None
        self._bad_ends[outcome.code or ""] += 1
        count = self._bad_ends.total()
        text = f"most with {self._bad_ends.most_common(1)[0][0]}, the last: {outcome.message}"
        fails = EndpointFails(f"{count} jobs in a row failed, {text}")
        was_open = self.doubt is not None
        if was_open or count >= ALIKE_AT_MOST:
            self.doubt = fails
        if was_open and session == self._probe:
            self.open(fails)
        elif self.doubt and not was_open:
            self._probe = ""
            self.pause(PROBE_AFTER_S)
            after = f"in {PROBE_AFTER_S:.0f} s one job is submitted to see"
            return f"{fails}; submitting stops, {after}"
        return None

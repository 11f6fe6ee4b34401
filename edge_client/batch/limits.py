"""What keeps a batch from submitting: RunPod's queue, money, the user, an endpoint that fails.

Takes what is posted, what leaves the queue, how jobs end, /health, SIGINT and SIGTERM, and the
errors for which sessions were given up; the engine asks before each submission. Nothing is raised.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from edge_client import errors
from edge_client.clock import Clock
from edge_client.errors import EdgeError, EndpointFails, Unreachable
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.retry_policy import is_endpoints_fault
from edge_client.session import Session

GPU_FACTOR = 0.2
"""A rented GPU took 892 s for 4,447 s of audio."""
GPU_S_A_JOB = 15.0
"""Assumed: fetching the recording, storing the transcript. Cold starts are not in it."""
SHARE_OF_TTL = 0.25


class QueueDepth:
    """How many jobs of this box wait for a worker, and how many may.

    As many as end within a quarter of their ttl at the pace so far, so that none expires, but
    ``floor`` at least, so that an endpoint without a worker still scales up.
    """

    def __init__(self, clock: Clock, floor: int) -> None:
        self._clock, self._floor = clock, floor
        self._waiting: dict[Session, float] = {}
        self._ended, self._in_queue = 0, float("inf")
        self._first_s: float | None = None
        self._left_s = clock.monotonic()
        self._ttl_s = 0.0

    def posted(self, session: Session, ttl_s: float) -> None:
        """Take a job that was posted just now."""
        now_s = self._clock.monotonic()
        self._first_s = now_s if self._first_s is None else self._first_s
        self._ttl_s, self._waiting[session] = ttl_s, now_s
        self._in_queue += 1

    def left(self, session: Session) -> None:
        """Know that a session's job is not in the queue any more."""
        if self._waiting.pop(session, None) is not None:
            self._left_s = self._clock.monotonic()

    def ended(self, session: Session) -> None:
        """Know that a session's job has ended."""
        self.left(session)
        self._ended += 1

    def looked(self, health: Mapping[str, Any]) -> None:
        """Take what the endpoint says: jobs that nobody looked at may have been begun."""
        jobs = health.get("jobs")
        count = jobs.get("inQueue") if isinstance(jobs, Mapping) else None
        self._in_queue = count if isinstance(count, int) else float("inf")

    def waits_s(self) -> float:
        """Return for how long jobs have waited without one being begun."""
        if not self._waiting or not self._in_queue:
            return 0.0
        since_s = max(self._left_s, next(iter(self._waiting.values())))
        return max(0.001, self._clock.monotonic() - since_s)

    def has_room(self, submitting: int = 0) -> bool:
        """Tell whether one more may wait, beside those that are being submitted."""
        waiting = min(len(self._waiting), self._in_queue) + submitting
        if waiting < self._floor or self._first_s is None:
            return waiting < self._floor
        span_s = max(1.0, self._clock.monotonic() - self._first_s)
        return waiting < self._ended / span_s * SHARE_OF_TTL * self._ttl_s


class Budget:
    """GPU seconds: what was used, what the jobs in flight are expected to use, and the limit.

    Once it ``is_spent``, no more is submitted.
    """

    def __init__(self, limit_s: float | None) -> None:
        self._limit_s, self.is_spent = limit_s, False
        self._used_s = self._known_s = self._audio_s = 0.0
        self._in_flight: dict[Session, tuple[float, float]] = {}

    def has_room(self, session: Session, audio_s: float, used_s: float = 0.0) -> bool:
        """Tell whether another job fits, beside all others and what its session has used."""
        if self._limit_s is None:
            return True
        others_s = sum(s for key, (s, _) in self._in_flight.items() if key != session)
        own_s = used_s + self._expected_s(audio_s)
        return self._used_s + others_s + own_s <= self._limit_s

    def submits(self, session: Session, audio_s: float, used_s: float = 0.0) -> None:
        """Take a job that is in flight now; those before it have used so much."""
        self._in_flight[session] = used_s + self._expected_s(audio_s), audio_s

    def dropped(self, session: Session) -> None:
        """Know that a session needed no job of this box."""
        self._in_flight.pop(session, None)

    def ended(self, session: Session, gpu_s: float | None) -> None:
        """Take a session's end; without a known time what was expected counts."""
        expected_s, audio_s = self._in_flight.pop(session, (0.0, 0.0))
        self._used_s += expected_s if gpu_s is None else gpu_s
        if gpu_s is not None and audio_s:
            self._known_s, self._audio_s = self._known_s + gpu_s, self._audio_s + audio_s

    def text(self) -> str:
        """Say where it stands."""
        return f"{self._used_s:,.0f} of {self._limit_s or 0:,.0f} GPU seconds are used"

    def _expected_s(self, audio_s: float) -> float:
        seen = self._known_s / self._audio_s if self._audio_s else 0.0
        return GPU_S_A_JOB + max(GPU_FACTOR, seen) * audio_s


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

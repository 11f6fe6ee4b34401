"""Keeps RunPod's rate limits: one limiter for all threads that speak to an endpoint.

Takes the kind of each request before it is sent, and every 429 after; returns when it may be sent.
Each kind has a rate of its own, smooth with a small burst (the generic cell rate algorithm: one
number of state, the time at which the bucket would be empty). A 429 stops everybody of its kind.

pyrate-limiter 4.5 was looked at: it takes a clock but sleeps on the machine's own, and knows no
pause that all callers share, so the two things that matter here would have been ours anyway.

RunPod counts per endpoint, this counts per process: several boxes on one endpoint share by 429.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from edge_client.clock import Clock

FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 60.0


class Kind(StrEnum):
    """What RunPod counts on its own. It names no limit for ``/health``: that is a `STATUS`."""

    RUN = "run"
    STATUS = "status"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Rate:
    """How often something may happen: ``burst`` at once, then ``per_s`` a second."""

    per_s: float
    burst: int


RATES: Mapping[Kind, Rate] = {
    Kind.RUN: Rate(per_s=80, burst=100),
    Kind.STATUS: Rate(per_s=160, burst=200),
    Kind.CANCEL: Rate(per_s=8, burst=10),
}
"""Of RunPod's 1,000, 2,000 and 100 in 10 s, nine tenths (``10 * per_s + burst``): requests that
leave evenly do not arrive so. Source: docs.runpod.io/serverless/endpoints/send-requests."""


@dataclass(frozen=True)
class Pass:
    """Leave to send one request. ``refusals``: how many pauses its kind had when it was given."""

    kind: Kind
    refusals: int


class Limiter:
    """Lets requests through no faster than RunPod takes them. For many threads.

    Args:
        clock: Whose seconds are counted and slept.
        rates: For each kind.
        jitter: Returns a factor for pauses, so that boxes refused together do not return together.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        rates: Mapping[Kind, Rate] = RATES,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - no secret
    ) -> None:
        clock = clock or Clock()
        self._sleep = clock.sleep
        self._lanes = {kind: _Lane(rate, clock, jitter) for kind, rate in rates.items()}

    def enter(self, kind: Kind, patience_s: float = float("inf")) -> Pass | float:
        """Wait for leave to send a request.

        Args:
            kind: Its kind.
            patience_s: The longest wait; nobody waits at all where it would be longer.

        Returns:
            The leave, or the seconds that it would have taken.
        """
        lane = self._lanes[kind]
        while True:
            wait_s, pauses = lane.reserve(patience_s)
            if wait_s > patience_s:
                return wait_s
            if wait_s > 0:
                self._sleep(wait_s)
            if lane.pauses == pauses:  # else a 429 came while this one slept: its place is void
                return Pass(kind, pauses)

    def refused(self, leave: Pass, retry_after_s: float | None) -> None:
        """Take a 429: everybody of its kind pauses.

        Args:
            leave: Of the request that was refused.
            retry_after_s: What RunPod asked for; else the pauses double from 1 s to 60 s.
        """
        self._lanes[leave.kind].pause(leave.refusals, retry_after_s)

    def accepted(self, leave: Pass) -> None:
        """Take any other answer: the next pause is a short one again."""
        self._lanes[leave.kind].relax(leave.refusals)


class _Lane:
    """The state of one kind; times are of the clock's monotonic seconds."""

    def __init__(self, rate: Rate, clock: Clock, jitter: Callable[[], float]) -> None:
        self._interval_s = 1 / rate.per_s
        self._slack_s = (rate.burst - 1) * self._interval_s
        self._now, self._jitter = clock.monotonic, jitter
        self._lock = threading.Lock()
        self._full_at = self._now()  # when all that was let through will have been paid off
        self._open_at = self._full_at
        self._in_a_row = 0
        self.pauses = 0

    def reserve(self, patience_s: float) -> tuple[float, int]:
        """Take the next place, if it is near enough; return the wait for it."""
        with self._lock:
            now = self._now()
            wait_s = max(0.0, self._full_at - self._slack_s - now, self._open_at - now)
            if wait_s <= patience_s:
                self._full_at = max(self._full_at, now) + self._interval_s
            return wait_s, self.pauses

    def pause(self, seen: int, retry_after_s: float | None) -> None:
        """Close for a while; requests that were on their way at the same time count once."""
        with self._lock:
            is_first = seen == self.pauses
            if is_first:
                self._in_a_row += 1
            pause_s = self._own_s() if retry_after_s is None and is_first else retry_after_s or 0.0
            open_at = self._now() + pause_s
            if is_first or open_at > self._open_at:
                self.pauses += 1
                self._open_at = max(self._open_at, open_at)
                self._full_at = self._open_at + self._slack_s  # no burst afterwards

    def _own_s(self) -> float:
        doubled_s: float = FIRST_PAUSE_S * 2 ** min(self._in_a_row - 1, 10)
        return min(MAX_PAUSE_S, doubled_s) * self._jitter()

    def relax(self, seen: int) -> None:
        """Forget the pauses so far, unless the request left before the last one."""
        with self._lock:
            if seen == self.pauses:
                self._in_a_row = 0

"""The time, as something that tests can hold in their hand."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def utc_now() -> datetime:
    """Return the time of day, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Clock:
    """Wall time for what others read, monotonic seconds for deadlines."""

    now: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Deadline:
    """How long the user waits."""

    def __init__(self, clock: Clock, timeout_s: float | None) -> None:
        self._clock, self.timeout_s = clock, timeout_s
        self._started = clock.monotonic()

    def left_s(self, most_s: float = float("inf")) -> float:
        """Return the seconds that are left, at most ``most_s``."""
        if self.timeout_s is None:
            return most_s
        return min(most_s, max(0.0, self._started + self.timeout_s - self._clock.monotonic()))

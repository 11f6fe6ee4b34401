"""How much longer a job takes, from how its percentage has grown. Pure."""

from __future__ import annotations

LEAST_SPAN_S = 5.0
LEAST_PERCENT = 2.0
"""Before both have gone by, a rate says nothing."""
ANOTHER_RUN_PERCENT = 10.0
"""RunPod's progress comes out of order at times: only so deep a fall is a job begun anew."""
SMOOTHING = 0.3
"""The weight of what the newest rate says: stages differ in pace, and people dislike jumps."""


class Estimate:
    """The remaining time of one job; nothing while it cannot be known."""

    def __init__(self) -> None:
        self._first: tuple[float, float] | None = None
        self._ends_at_s: float | None = None
        self._percent = 0.0

    def left_s(self, now_s: float, percent: float | None) -> float | None:
        """Take the newest percentage and return the seconds that are left.

        Args:
            now_s: Monotonic.
            percent: Of the whole job; None if unknown. A deep fall means another run.

        Returns:
            None if unknown.
        """
        if percent is None:
            return None
        before, self._percent = self._percent, percent
        if self._first is None or percent < before - ANOTHER_RUN_PERCENT:
            self._first, self._ends_at_s = (now_s, percent), None
            return None
        span_s, grown = now_s - self._first[0], percent - self._first[1]
        if span_s < LEAST_SPAN_S or grown < LEAST_PERCENT:
            return None
        newest_s = now_s + span_s * (100 - percent) / grown
        before_s = newest_s if self._ends_at_s is None else self._ends_at_s
        self._ends_at_s = before_s + SMOOTHING * (newest_s - before_s)
        return max(0.0, self._ends_at_s - now_s)

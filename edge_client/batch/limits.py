"""How much a batch may submit: into RunPod's queue, and for how much money.

Takes what is posted, what leaves the queue, what ends, and /health; the engine asks before each
submission. Nothing is raised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_client.clock import Clock
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

"""Counts what clients ask of the queue, and says no where RunPod would: 429 over a rate limit."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from devstack.rules import QueueRules, RateRule

_NO_LIMIT = RateRule(per_window=10**9, at_once=10**9)


class TooManyRequests(Exception):
    """More requests of a kind than RunPod takes."""


class Traffic:
    """The requests of all clients, by kind: the first word of the path.

    Args:
        rules: Names the limits.
        clock: Seconds, never falling.
    """

    def __init__(self, rules: QueueRules, clock: Callable[[], float]) -> None:
        self._clock, self._window_s = clock, rules.rate_window_s
        self._limits = {
            "run": rules.run_rate,
            "status": rules.status_rate,
            "cancel": rules.cancel_rate,
            "purge-queue": rules.purge_rate,
        }
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._open: Counter[str] = Counter()
        self._requests: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._most_in_window: Counter[str] = Counter()
        self._most_at_once: Counter[str] = Counter()
        self._connections: set[object] = set()

    @contextmanager
    def admit(self, kind: str, connection: object) -> Iterator[None]:
        """Count a request while it is answered.

        Args:
            kind: First word of its path.
            connection: What tells its connection from others: the client's address and port.

        Raises:
            TooManyRequests: The kind's limit is reached.
        """
        self._connections.add(connection)
        self._requests[kind] += 1
        recent, limit = self._fresh(kind), self._limits.get(kind, _NO_LIMIT)
        if len(recent) >= limit.per_window or self._open[kind] >= limit.at_once:
            self._refused[kind] += 1
            raise TooManyRequests(kind)
        recent.append(self._clock())
        self._open[kind] += 1
        self._note_most(kind)
        try:
            yield
        finally:
            self._open[kind] -= 1

    def report(self) -> dict[str, object]:
        """Return the counts so far; windows and requests at once are the fullest there were."""
        return {
            "requests": dict(self._requests),
            "refused": dict(self._refused),
            "most_in_window": dict(self._most_in_window),
            "most_at_once": dict(self._most_at_once),
            "connections": len(self._connections),
        }

    def _fresh(self, kind: str) -> deque[float]:
        """Return when the requests of the current window came."""
        recent, since_s = self._recent[kind], self._clock() - self._window_s
        while recent and recent[0] <= since_s:
            recent.popleft()
        return recent

    def _note_most(self, kind: str) -> None:
        most = self._most_in_window
        most[kind] = max(most[kind], len(self._recent[kind]))
        self._most_at_once[kind] = max(self._most_at_once[kind], self._open[kind])

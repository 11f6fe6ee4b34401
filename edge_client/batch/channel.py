"""A bounded hand-over from several threads to one consumer, which either side can end.

A consumer that stops taking pauses the producers; one that goes away stops them.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Channel(Generic[T]):
    """The hand-over.

    Args:
        room: So many values wait at most.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._producers = 0
        self._closed = False
        self._failure: Exception | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the consumer is gone: nothing more needs to be made."""
        return self._closed

    def enter(self) -> None:
        """Count one more producer; called before its thread starts."""
        with self._changed:
            self._producers += 1

    def leave(self) -> None:
        """Count one producer less; the iteration ends after the last one's values."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def put(self, value: T) -> None:
        """Hand ``value`` over; wait while there is no room. Does nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._room)
            self._waiting.append(value)
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Have the consumer see ``error`` next, in place of what still waits."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def close(self) -> None:
        """Release every producer: the consumer takes no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield the values until no producer is left.

        Raises:
            Exception: What a producer failed with.
        """
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news)
                if self._failure is not None:
                    raise self._failure
                if not self._waiting:
                    return
                value = self._waiting.popleft()
                self._changed.notify_all()
            yield value

    def _has_news(self) -> bool:
        return bool(self._waiting or self._failure or self._producers == 0)

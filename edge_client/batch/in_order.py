"""Does the slow ones of a stream of values a few at a time, and keeps the stream's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Later(Generic[T]):
    """A value that costs a call over the network."""

    make: Callable[[], T]


def in_order(
    values: Iterable[T | Later[T]], *, workers: int, ahead: int
) -> Generator[T, None, None]:
    """Yield every value, in order; a value that is there does not wait for the next one.

    Args:
        values: Those to be made are made in threads, at once when they are drawn.
        workers: So many at a time.
        ahead: So many values are drawn at most before the oldest is there.

    Raises:
        Exception: What making a value raised, in its place.
    """
    drawn: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, "in-order")
    try:
        for value in values:
            drawn.append(pool.submit(value.make) if isinstance(value, Later) else value)
            while drawn and (len(drawn) >= ahead or _is_there(drawn[0])):
                yield _taken(drawn)
        while drawn:
            yield _taken(drawn)
    finally:
        pool.shutdown(cancel_futures=True)


def _is_there(value: T | Future[T]) -> bool:
    return not isinstance(value, Future) or value.done()


def _taken(drawn: deque[T | Future[T]]) -> T:
    value = drawn.popleft()
    return value.result() if isinstance(value, Future) else value

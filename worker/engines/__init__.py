"""What models compute: text, word times, speaker turns. Engines know no job and no stage."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def one_ahead(started: Iterable[T]) -> Iterator[T]:
    """Give each item after the next one is started, so that a GPU does not wait for the caller."""
    waiting: list[T] = []
    for one in started:
        yield from waiting
        waiting = [one]
    yield from waiting

"""Slow values are made a few at a time; what is there does not wait."""

import threading
from collections.abc import Iterator

import pytest

from edge_client.batch.listing import Later, in_order
from edge_client.errors import Unreachable


def test_values_come_in_their_order() -> None:
    later = threading.Event()

    def slow() -> int:
        assert later.wait(10)
        return 0

    def quick() -> int:
        later.set()
        return 1

    assert list(in_order([Later(slow), Later(quick), 2], workers=2, ahead=9)) == [0, 1, 2]


def test_a_value_that_is_there_does_not_wait_for_the_next() -> None:
    drawn: list[int] = []

    def values() -> Iterator[int]:
        for number in range(3):
            drawn.append(number)
            yield number

    for number in in_order(values(), workers=1, ahead=9):
        assert drawn == list(range(number + 1))


def test_no_more_are_drawn_than_allowed() -> None:
    go, drawn = threading.Event(), []

    def slow() -> int:
        assert go.wait(10)
        return -1

    def values() -> Iterator[int | Later[int]]:
        yield Later(slow)
        for number in range(100):
            drawn.append(number)
            if number == 3:
                go.set()
            yield number

    found = in_order(values(), workers=1, ahead=5)
    assert next(found) == -1
    assert drawn == [0, 1, 2, 3]
    assert list(found) == list(range(100))


def test_a_failure_comes_in_its_place() -> None:
    def fails() -> int:
        raise Unreachable("S3 is away")

    found = in_order([1, Later(fails), 3], workers=1, ahead=9)
    assert next(found) == 1
    with pytest.raises(Unreachable):
        next(found)


def test_closing_ends_the_threads() -> None:
    found = in_order([Later(lambda: 1), 2, 3], workers=1, ahead=1)
    assert next(found) == 1
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("in-order")]

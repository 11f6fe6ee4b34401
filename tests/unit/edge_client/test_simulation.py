"""docs/guarantees.md, on drawn schedules: `make soak` runs many more."""

import pytest

from tests.simulation.schedule import check


@pytest.mark.parametrize("first", range(0, 1_000, 250))
def test_no_schedule_breaks_a_promise(first: int) -> None:
    """What does is shrunk, and shown with its seed."""
    check(range(first, first + 250))

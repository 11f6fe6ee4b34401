"""docs/guarantees.md, on drawn schedules: `make soak` runs many more."""

import pytest

from tests.simulation.defects import DEFECTS, Defect
from tests.simulation.schedule import check, draw, run

MOST_SCHEDULES = 800
"""Until a defect is caught: most take a dozen, a 404 that is believed at once 636."""


@pytest.mark.parametrize("first", range(0, 1_000, 125))
def test_no_schedule_breaks_a_promise(first: int) -> None:
    """What does is shrunk, and shown with its seed."""
    check(range(first, first + 125))


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
def test_a_defect_that_is_put_back_is_caught(defect: Defect) -> None:
    with defect.back():
        assert any(run(draw(seed)).violations for seed in range(MOST_SCHEDULES))


def test_a_schedule_is_replayed_from_its_seed() -> None:
    first, second = (run(draw(7), is_told=True) for _ in range(2))
    assert first.trace == second.trace

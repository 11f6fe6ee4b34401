"""What many runs come to."""

import pytest

from bench.speed.measure import Figure, by_stage, efficiency, ratios


def test_a_figure_holds_the_median_and_both_ends() -> None:
    """One slow run moves the upper end alone."""
    assert Figure.of([2.0, 1.0, 9.0]) == Figure(median=2.0, low=1.0, high=9.0, runs=3)


def test_ratios_are_taken_pair_by_pair() -> None:
    """A minute in which the machine was slow for both sides changes no ratio."""
    assert ratios([1.0, 10.0, 2.0], [2.0, 20.0, 4.0]) == Figure(0.5, 0.5, 0.5, 3)


def test_sides_that_ran_at_different_counts_are_no_pairs() -> None:
    """A run that is missing is not skipped in silence."""
    with pytest.raises(ValueError, match="argument 2"):
        ratios([1.0, 2.0], [1.0])


def test_a_stage_that_a_run_lacks_took_no_time() -> None:
    """Every stage has as many values as there were runs."""
    assert by_stage([{"a": 1.0}, {"a": 2.0, "b": 3.0}]) == {"a": [1.0, 2.0], "b": [0.0, 3.0]}


def test_efficiency_is_the_share_of_the_floor() -> None:
    """9 s of models in 10 s of job."""
    assert efficiency(9.0, 10.0) == 0.9

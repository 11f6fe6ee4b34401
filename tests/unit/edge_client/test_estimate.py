"""Estimates: nothing until there is a pace, then steady, and never negative."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.jobs.poll import Estimate


def test_nothing_is_said_without_a_percentage_or_a_pace() -> None:
    estimate = Estimate()
    assert estimate.left_s(0, None) is None
    assert estimate.left_s(0, 10) is None
    assert estimate.left_s(4, 40) is None  # too soon
    assert estimate.left_s(60, 11) is None  # too little


def test_steady_pace_is_told_exactly() -> None:
    estimate = Estimate()
    told = [estimate.left_s(t, t) for t in range(0, 101, 10)]
    assert told == [None, *(pytest.approx(100 - t) for t in range(10, 101, 10))]


def test_a_waiter_who_came_late_counts_from_when_it_came() -> None:
    estimate = Estimate()
    estimate.left_s(1000, 50)
    assert estimate.left_s(1010, 60) == pytest.approx(40)


def test_jumps_are_smoothed() -> None:
    estimate = Estimate()
    estimate.left_s(0, 0)
    assert estimate.left_s(10, 10) == pytest.approx(90)
    jumped = estimate.left_s(11, 55)  # alone it would say 9
    assert jumped is not None
    assert 60 < jumped < 89


def test_another_run_of_the_job_begins_anew() -> None:
    estimate = Estimate()
    estimate.left_s(0, 0)
    estimate.left_s(50, 50)
    assert estimate.left_s(60, 5) is None
    assert estimate.left_s(70, 15) == pytest.approx(85)


def test_progress_out_of_order_is_no_other_run() -> None:
    estimate = Estimate()
    estimate.left_s(0, 0)
    estimate.left_s(50, 50)
    assert estimate.left_s(51, 45) is not None


@given(st.lists(st.tuples(st.floats(0.1, 600), st.floats(0, 100)), max_size=30))
def test_never_negative_nor_a_number_out_of_nothing(looks: list[tuple[float, float]]) -> None:
    estimate, now_s = Estimate(), 0.0
    for gone_s, percent in looks:
        now_s += gone_s
        left_s = estimate.left_s(now_s, percent)
        assert left_s is None or 0 <= left_s < 600 * 30 * 100

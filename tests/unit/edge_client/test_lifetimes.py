"""Lifetimes: they agree with each other, whatever the length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.errors import BadUsage, RecordingTooLong
from edge_client.services.presign import (
    MARGIN_S,
    MAX_DURATION_S,
    MAX_URL_EXPIRY_S,
    QUEUE_S,
    check_expiry,
    plan_lifetimes,
)


def test_74_minutes_are_not_killed_by_runpods_default() -> None:
    life = plan_lifetimes(74 * 60 + 7.5, 3600)
    assert life.execution_timeout_s == 300 + 4448
    assert life.policy().execution_timeout_ms == 4_748_000
    assert life.policy().ttl_ms == (7200 + 4748) * 1000


def test_job_that_is_known_to_need_longer_gets_twice_that() -> None:
    life = plan_lifetimes(5, 1, known_s=4000)
    assert (life.execution_timeout_s, life.likely_s) == (8000, 4000)
    assert life.url_expiry_s > life.ttl_s > 8000
    assert plan_lifetimes(5, 1, known_s=1).execution_timeout_s == 600


def test_likely_time_is_twice_the_seeds() -> None:
    assert plan_lifetimes(4440, 3600).likely_s == 300 + 2 * 888


def test_lifetimes_that_end_within_keep_runpods_rules() -> None:
    life = plan_lifetimes(5, 3600).ending_within(400)
    assert (life.execution_timeout_s, life.ttl_s, life.url_expiry_s) == (400, 400, 400)
    assert plan_lifetimes(5, 3600).ending_within(10**6) == plan_lifetimes(5, 3600)


def test_a_short_recording_keeps_runpods_ten_minutes() -> None:
    assert plan_lifetimes(5, 1).execution_timeout_s == 600


@given(st.floats(0, MAX_DURATION_S), st.integers(1, MAX_URL_EXPIRY_S), st.floats(0, 10**7))
def test_lifetimes_agree(duration_s: float, expiry_s: int, known_s: float) -> None:
    life = plan_lifetimes(duration_s, expiry_s, known_s)
    assert life.execution_timeout_s >= max(600, duration_s)
    assert life.ttl_s >= life.execution_timeout_s + QUEUE_S
    assert life.url_expiry_s == life.ttl_s + MARGIN_S
    assert expiry_s <= life.url_expiry_s <= MAX_URL_EXPIRY_S
    life.policy()  # within RunPod's own limits


@given(st.floats(0, MAX_DURATION_S), st.floats(0, MAX_DURATION_S))
def test_longer_recordings_never_get_less(one_s: float, other_s: float) -> None:
    shorter, longer = sorted([one_s, other_s])
    assert plan_lifetimes(shorter, 3600).ttl_s <= plan_lifetimes(longer, 3600).ttl_s


def test_what_no_url_outlives_is_refused() -> None:
    with pytest.raises(RecordingTooLong, match=r"split it"):
        plan_lifetimes(MAX_DURATION_S + 1, 3600)


@pytest.mark.parametrize("expires_s", [0, -1, 604_801])
def test_expiry_out_of_range_is_refused(expires_s: int) -> None:
    with pytest.raises(BadUsage, match="604800"):
        check_expiry(expires_s)


@pytest.mark.parametrize("expires_s", [1, 604_800])
def test_expiry_limits_are_allowed(expires_s: int) -> None:
    assert check_expiry(expires_s) == expires_s

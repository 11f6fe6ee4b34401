"""RunPod's rates are kept, and a 429 stops all requests of its kind."""

from bisect import bisect_left

import pytest

from edge_client.clock import Clock
from edge_client.services.runpod import MAX_PAUSE_S, RATES, Kind, Rate, TokenBucket
from tests.unit.edge_client.samples import FakeClock

RUNPOD = {Kind.RUN: 1000, Kind.STATUS: 2000, Kind.CANCEL: 100}
WINDOW_S = 10.0


def sent(bucket: TokenBucket, clock: FakeClock, requests: int) -> list[float]:
    """Send as fast as the bucket lets us; return when each was sent."""
    times = []
    for _ in range(requests):
        bucket.accepted(bucket.acquire())
        times.append(clock.monotonic())
    return times


def most_in_a_window(times: list[float]) -> int:
    return max(bisect_left(times, at + WINDOW_S) - i for i, at in enumerate(times))


@pytest.mark.parametrize("kind", Kind)
def test_no_window_holds_more_than_runpod_takes(kind: Kind, clock: FakeClock) -> None:
    times = sent(TokenBucket(RATES[kind], clock), clock, 3 * RUNPOD[kind])
    assert 0.85 * RUNPOD[kind] <= most_in_a_window(times) <= 0.91 * RUNPOD[kind]


def test_pause_holds_who_sleeps_already_and_the_rate_is_kept_after_it(clock: FakeClock) -> None:
    def refused_meanwhile(seconds: float) -> None:
        clock.sleep(seconds)
        if len(clock.slept) == 1:
            bucket.refused(0, 30.0)

    bucket = TokenBucket(RATES[Kind.CANCEL], Clock(clock.now, clock.monotonic, refused_meanwhile))
    times = sent(bucket, clock, 200)
    burst = RATES[Kind.CANCEL].burst
    assert times[burst] == times[burst - 1] + clock.slept[0] + 30.0
    assert most_in_a_window(times[burst:]) <= 81  # no burst after a pause


@pytest.fixture
def bucket(clock: FakeClock) -> TokenBucket:
    return TokenBucket(Rate(1000, 1000), clock, jitter=lambda: 1.0)


def test_pauses_double_to_a_limit_and_start_anew_after_an_answer(
    bucket: TokenBucket, clock: FakeClock
) -> None:
    for _ in range(9):
        bucket.refused(bucket.acquire(), None)
    bucket.accepted(bucket.acquire())
    bucket.refused(bucket.acquire(), None)
    bucket.acquire()
    pauses = [s for s in clock.slept if s > 0.5]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S, 1])


def test_requests_refused_together_count_once_and_the_longest_retry_after_wins(
    bucket: TokenBucket, clock: FakeClock
) -> None:
    together = [bucket.acquire() for _ in range(4)]
    for pauses, asked_s in zip(together, [None, 5.0, 20.0, 3.0], strict=True):
        bucket.refused(pauses, asked_s)
    bucket.refused(bucket.acquire(), None)
    bucket.acquire()
    assert clock.slept == [20.0, 2.0]


def test_answer_to_an_earlier_request_does_not_end_the_pauses(
    bucket: TokenBucket, clock: FakeClock
) -> None:
    early, refused = bucket.acquire(), bucket.acquire()
    bucket.refused(refused, None)
    bucket.accepted(early)
    bucket.refused(bucket.acquire(), None)
    bucket.acquire()
    assert clock.slept == [1.0, 2.0]


def test_jitter_shortens_own_pauses_alone(clock: FakeClock) -> None:
    bucket = TokenBucket(RATES[Kind.STATUS], clock, jitter=lambda: 0.5)
    bucket.refused(bucket.acquire(), None)
    bucket.refused(bucket.acquire(), 8.0)
    bucket.acquire()
    assert clock.slept == [0.5, 8.0]

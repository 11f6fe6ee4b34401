"""RunPod's rates are kept by any number of threads, and a 429 stops all of its kind."""

import itertools
import threading
from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_client.clock import Clock
from edge_client.services.runpod import MAX_PAUSE_S, RATES, Kind, Rate, TokenBucket
from tests.unit.edge_client.samples import FakeClock

THREADS = 16
RUNPOD = {Kind.RUN: 1000, Kind.STATUS: 2000, Kind.CANCEL: 100}
WINDOW_S = 10.0


class SharedTime:
    """Seconds that pass when all of so many threads sleep, to the end of the shortest sleep."""

    def __init__(self, threads: int) -> None:
        self.now_s, self.awake, self.ends = 0.0, threads, list[float]()
        self.changed = threading.Condition()

    def sleep(self, seconds: float) -> None:
        """Sleep until the others' sleeps have brought the time here."""
        with self.changed:
            end_s = self.now_s + seconds
            self.ends.append(end_s)
            self._one_less()
            while self.now_s < end_s:
                self.changed.wait()
            self.ends.remove(end_s)

    def leave(self) -> None:
        """End one thread."""
        with self.changed:
            self._one_less()

    def _one_less(self) -> None:
        self.awake -= 1
        if self.awake == 0 and self.ends:
            self.now_s = min(self.ends)
            self.awake = self.ends.count(self.now_s)
            self.changed.notify_all()


def hammer(kind: Kind, per_thread: int, on_sent: Callable[[TokenBucket, int], None]) -> list[float]:
    """Send from many threads as fast as the bucket lets them; return when each was sent."""
    time = SharedTime(THREADS)
    clock = Clock(monotonic=lambda: time.now_s, sleep=time.sleep)
    bucket = TokenBucket(RATES[kind], clock, jitter=lambda: 1.0)
    sent: list[float] = []

    def send() -> None:
        for _ in range(per_thread):
            pauses = bucket.acquire()
            sent.append(time.now_s)
            on_sent(bucket, pauses)
        time.leave()

    with ThreadPoolExecutor(THREADS) as pool:
        for thread in [pool.submit(send) for _ in range(THREADS)]:
            thread.result()
    return sorted(sent)


def most_in_a_window(times: list[float]) -> int:
    return max(bisect_left(times, at + WINDOW_S) - i for i, at in enumerate(times))


@pytest.mark.parametrize("kind", Kind)
def test_no_window_holds_more_than_runpod_takes(kind: Kind) -> None:
    times = hammer(kind, 3 * RUNPOD[kind] // THREADS, TokenBucket.accepted)
    most = most_in_a_window(times)
    assert 0.85 * RUNPOD[kind] <= most <= 0.91 * RUNPOD[kind]


def test_pause_holds_everybody_and_the_rate_is_kept_after_it() -> None:
    answers = itertools.count(1)

    def refuse_the_fiftieth(bucket: TokenBucket, pauses: int) -> None:
        bucket.refused(pauses, 30.0) if next(answers) == 50 else bucket.accepted(pauses)

    times = hammer(Kind.CANCEL, 20, refuse_the_fiftieth)
    assert times[50] == times[49] + 30.0  # though the others slept for places before that
    assert most_in_a_window(times[50:]) <= 81  # no burst after a pause


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
    together = [bucket.acquire() for _ in range(THREADS)]
    for pauses, asked_s in zip(together, [None, None, 5.0, 20.0, 3.0, *[None] * 11], strict=True):
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

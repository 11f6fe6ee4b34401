"""RunPod's rates are kept by any number of threads, and a 429 stops all of its kind."""

import itertools
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_client.clock import Clock
from edge_client.services.runpod import MAX_PAUSE_S, RATES, Kind, Limiter, Pass, Rate
from tests.unit.edge_client.samples import FakeClock

THREADS = 16
RUNPOD = {Kind.RUN: 1000, Kind.STATUS: 2000, Kind.CANCEL: 100}
WINDOW_S = 10.0


class SharedClock(Clock):
    """Seconds that pass when all of so many threads sleep, to the end of the shortest sleep."""

    def __init__(self, threads: int) -> None:
        super().__init__(monotonic=lambda: self.now_s, sleep=self.sleep_until_all_do)
        object.__setattr__(self, "now_s", 0.0)
        object.__setattr__(self, "awake", threads)
        object.__setattr__(self, "ends", [])
        object.__setattr__(self, "changed", threading.Condition())

    def sleep_until_all_do(self, seconds: float) -> None:
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
        object.__setattr__(self, "awake", self.awake - 1)
        if self.awake == 0 and self.ends:
            object.__setattr__(self, "now_s", min(self.ends))
            object.__setattr__(self, "awake", self.ends.count(self.now_s))
            self.changed.notify_all()


def hammer(kind: Kind, per_thread: int, on_sent: Callable[[Limiter, Pass], None]) -> list[float]:
    """Send from many threads as fast as the limiter lets them; return when each was sent."""
    clock = SharedClock(THREADS)
    limiter = Limiter(clock, jitter=lambda: 1.0)
    sent: list[float] = []

    def send() -> None:
        for _ in range(per_thread):
            leave = limiter.enter(kind)
            assert isinstance(leave, Pass)
            sent.append(clock.now_s)
            on_sent(limiter, leave)
        clock.leave()

    with ThreadPoolExecutor(THREADS) as pool:
        for thread in [pool.submit(send) for _ in range(THREADS)]:
            thread.result()
    return sorted(sent)


def most_in_a_window(times: list[float]) -> int:
    return max(bisect_left(times, at + WINDOW_S) - i for i, at in enumerate(times))


@pytest.mark.parametrize("kind", Kind)
def test_no_window_holds_more_than_runpod_takes(kind: Kind) -> None:
    times = hammer(kind, 3 * RUNPOD[kind] // THREADS, Limiter.accepted)
    most = most_in_a_window(times)
    assert 0.85 * RUNPOD[kind] <= most <= 0.91 * RUNPOD[kind]


def test_pause_holds_everybody_and_the_rate_is_kept_after_it() -> None:
    answers = itertools.count(1)

    def refuse_the_fiftieth(limiter: Limiter, leave: Pass) -> None:
        limiter.refused(leave, 30.0) if next(answers) == 50 else limiter.accepted(leave)

    times = hammer(Kind.CANCEL, 20, refuse_the_fiftieth)
    assert times[50] == times[49] + 30.0  # though the others slept for places before that
    assert most_in_a_window(times[50:]) <= 81  # no burst after a pause


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def limiter(clock: FakeClock) -> Iterator[Limiter]:
    return Limiter(clock, {kind: Rate(1000, 1000) for kind in Kind}, jitter=lambda: 1.0)


def enter(limiter: Limiter, kind: Kind = Kind.STATUS) -> Pass:
    leave = limiter.enter(kind)
    assert isinstance(leave, Pass)
    return leave


def test_pauses_double_to_a_limit_and_start_anew_after_an_answer(
    limiter: Limiter, clock: FakeClock
) -> None:
    for _ in range(9):
        limiter.refused(enter(limiter), None)
    limiter.accepted(enter(limiter))
    limiter.refused(enter(limiter), None)
    enter(limiter)
    pauses = [s for s in clock.slept if s > 0.5]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, MAX_PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S, 1])


def test_requests_refused_together_count_once(limiter: Limiter, clock: FakeClock) -> None:
    together = [enter(limiter) for _ in range(THREADS)]
    for leave in together:
        limiter.refused(leave, None)
    enter(limiter)
    assert clock.slept == [1.0]


def test_answer_to_an_earlier_request_does_not_end_the_pauses(
    limiter: Limiter, clock: FakeClock
) -> None:
    early, refused = enter(limiter), enter(limiter)
    limiter.refused(refused, None)
    limiter.accepted(early)
    limiter.refused(enter(limiter), None)
    enter(limiter)
    assert clock.slept == [1.0, 2.0]


def test_longest_retry_after_wins(limiter: Limiter, clock: FakeClock) -> None:
    first, second, third = enter(limiter), enter(limiter), enter(limiter)
    limiter.refused(first, 5.0)
    limiter.refused(second, 20.0)
    limiter.refused(third, 3.0)
    enter(limiter)
    assert clock.slept == [20.0]


def test_other_kinds_go_on(limiter: Limiter, clock: FakeClock) -> None:
    limiter.refused(enter(limiter, Kind.RUN), 60.0)
    enter(limiter, Kind.STATUS)
    enter(limiter, Kind.CANCEL)
    assert clock.slept == []


def test_who_has_no_patience_is_told_the_wait_and_takes_no_place(clock: FakeClock) -> None:
    limiter = Limiter(clock, {Kind.RUN: Rate(per_s=0.1, burst=1)})
    enter(limiter, Kind.RUN)
    assert [limiter.enter(Kind.RUN, 9.0) for _ in range(3)] == [10.0] * 3
    assert isinstance(limiter.enter(Kind.RUN, 10.0), Pass)
    assert clock.slept == [10.0]


def test_jitter_shortens_own_pauses_alone(clock: FakeClock) -> None:
    limiter = Limiter(clock, RATES, jitter=lambda: 0.5)
    limiter.refused(enter(limiter), None)
    limiter.refused(enter(limiter), 8.0)
    enter(limiter)
    assert clock.slept == [0.5, 8.0]

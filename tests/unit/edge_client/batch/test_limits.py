"""How much may be submitted: the queue's depth follows the pace, and a budget is never exceeded."""

from collections import deque

import pytest

from edge_client.batch.limits import PROBE_AFTER_S, Budget, CircuitBreaker, QueueDepth
from edge_client.errors import EndpointFails
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.retry_policy import Ending, Result
from edge_client.jobs.transcript import Delivered
from edge_client.session import Session
from tests.unit.edge_client.samples import FakeClock, session

LONG_S, RUN_S, TTL_S = 4447.0, 892.0, 11_947.0


@pytest.mark.parametrize("workers", [3, 30])
def test_no_job_of_two_hundred_long_ones_expires_and_no_worker_idles(
    clock: FakeClock, workers: int
) -> None:
    """All at once they would wait for up to 16 hours, of a ttl of 3.3."""
    depth, left = QueueDepth(clock, 20), deque(session(number) for number in range(200))
    queue, free_at, waits = deque[tuple[Session, float]](), [0.0] * workers, list[float]()
    while left or queue:
        now_s = clock.monotonic()
        for number in range(workers):
            if queue and free_at[number] <= now_s:
                which, posted_s = queue.popleft()
                waits.append(now_s - posted_s)
                depth.left(which)
                if free_at[number]:
                    depth.ended(which)  # the one before
                free_at[number] = now_s + RUN_S
        while left and depth.has_room():
            queue.append((left.popleft(), now_s))
            depth.posted(queue[-1][0], TTL_S)
        assert queue or not left
        clock.sleep(10.0)
    assert max(waits) + RUN_S < TTL_S
    assert clock.monotonic() < 1.15 * RUN_S * (200 / workers + 1)


def test_health_tells_of_jobs_that_were_begun_and_not_looked_at(clock: FakeClock) -> None:
    depth = QueueDepth(clock, 3)
    assert [depth.has_room() or depth.posted(session(n), TTL_S) for n in range(2)] == [True, True]
    for number in range(3):
        depth.posted(session(number), TTL_S)
    clock.sleep(60)
    assert (depth.has_room(), depth.waits_s()) == (False, 60)
    depth.looked({"jobs": {"inQueue": 1}})
    assert depth.has_room(1)
    assert not depth.has_room(2) or depth.has_room(0)
    depth.looked({"jobs": {"inQueue": 0}})
    assert depth.waits_s() == 0
    depth.looked({})  # it does not say
    assert depth.has_room() is False


def test_budget_counts_what_is_used_and_what_is_in_flight() -> None:
    budget, one, other = Budget(100.0), session(1), session(2)
    assert budget.has_room(one, 400.0)  # 15 s and a fifth
    budget.submits(one, 400.0)
    assert not budget.has_room(other, 1.0)
    assert budget.has_room(one, 400.0) is True  # its next job replaces the one that ended
    assert budget.has_room(one, 400.0, used_s=10.0) is False
    budget.ended(one, 80.0)
    assert not budget.has_room(other, 100.0)
    assert budget.has_room(other, 20.0)
    assert "80 of 100" in budget.text()
    budget = Budget(100.0)
    budget.submits(one, 100.0)
    budget.ended(one, 60.0)  # slower than was assumed
    assert not budget.has_room(other, 50.0)
    budget.submits(other, 10.0)
    budget.ended(other, None)  # nobody knows: as expected
    assert "81 of 100" in budget.text()
    assert Budget(None).has_room(one, 1e9)


BAD = Outcome(Result.FAILED, "it failed", Ending.CRASHED)
GOOD = Outcome.stored(Delivered(1, 1, 2.0, 0.5, "en", (), 100))
OWN = Outcome(Result.CANCELLED, "cancelled", Ending.CANCELLED)


def opened(clock: FakeClock) -> CircuitBreaker:
    breaker = CircuitBreaker(clock)
    assert [breaker.ended("s", BAD) for _ in range(9)] == [None] * 9
    line = breaker.ended("s", BAD)
    assert line is not None
    assert line.startswith("10 jobs in a row failed, most with crashed, the last: it failed")
    assert not breaker.may_submit
    clock.sleep(PROBE_AFTER_S)
    return breaker


def test_ten_bad_ends_in_a_row_let_one_probe_through_that_decides(clock: FakeClock) -> None:
    breaker = opened(clock)
    assert breaker.may_submit
    breaker.submits("probe")
    assert not breaker.may_submit
    breaker.ended("other", BAD)  # was in flight
    assert breaker.error is None
    breaker.ended("probe", BAD)
    assert isinstance(breaker.error, EndpointFails)
    for good in (GOOD, OWN):  # a recording's own fault is none of the endpoint's
        breaker = opened(clock)
        breaker.submits("probe")
        breaker.ended("probe", good)
        assert breaker.may_submit


def test_success_between_starts_the_count_anew_and_other_ends_do_not_count(
    clock: FakeClock,
) -> None:
    breaker = CircuitBreaker(clock)
    for outcome in [BAD] * 9 + [OWN, GOOD] + [BAD] * 9 + [OWN] * 9:
        assert breaker.ended("s", outcome) is None
    breaker = opened(clock)
    breaker.ended("in flight", GOOD)
    assert breaker.may_submit
    breaker = opened(clock)
    breaker.submits("probe")
    breaker.left("probe")  # nothing came of it
    assert breaker.may_submit

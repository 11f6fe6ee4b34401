"""Clients that ask too often get 429, as from RunPod; what they ask is counted."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from starlette.exceptions import HTTPException

from devstack.api import RateLimits
from devstack.queue import QueueConfig, RateLimit
from tests.fakes.queue_client import FakeClock, QueueClient

CONFIG = QueueConfig(rates={"status": RateLimit(per_window=5, at_once=2)})


def ask(rate_limits: RateLimits, times: int, kind: str = "status") -> None:
    for _ in range(times):
        with rate_limits.admit(kind, "a client"):
            pass


def test_the_window_slides(clock: FakeClock) -> None:
    """What came ten seconds ago no longer counts, what came since does."""
    rate_limits = RateLimits(CONFIG, clock)
    ask(rate_limits, 3)
    clock.pass_s(6)
    ask(rate_limits, 2)
    with pytest.raises(HTTPException):
        ask(rate_limits, 1)
    clock.pass_s(4)
    ask(rate_limits, 3)
    with pytest.raises(HTTPException):
        ask(rate_limits, 1)
    ask(rate_limits, 9, "health")  # what has no limit is counted, too
    assert rate_limits.report()["requests"] == {"status": 10, "health": 9}
    assert rate_limits.report()["refused"] == {"status": 2}
    assert rate_limits.report()["most_in_window"] == {"status": 5, "health": 9}


def test_requests_at_one_moment_are_limited_too(clock: FakeClock) -> None:
    """One that is answered makes room."""
    rate_limits = RateLimits(CONFIG, clock)
    with ExitStack() as open_requests:
        for _ in range(2):
            open_requests.enter_context(rate_limits.admit("status", "a client"))
        with pytest.raises(HTTPException):
            ask(rate_limits, 1)
    ask(rate_limits, 1)
    assert rate_limits.report()["most_at_once"] == {"status": 2}


def test_too_many_requests_are_answered_with_429(client: QueueClient) -> None:
    """The clock stands still, so the window never ends."""
    codes = [client.call("POST", "purge-queue").status_code for _ in range(3)]
    assert codes == [200, 200, 429]
    seen = client.call("GET", "_requests").json()
    assert (seen["requests"]["purge-queue"], seen["refused"]) == (3, {"purge-queue": 1})
    assert seen["connections"] == 1

"""Clients that ask too often get 429, as from RunPod; what they ask is counted."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import replace

import pytest
from pydantic import SecretStr
from starlette.exceptions import HTTPException

from devstack.api import RateLimits
from devstack.queue import QueueConfig, RateLimit
from devstack.server import QueueServer
from edge_client.errors import JobNotFound
from edge_client.services.runpod import CONNECTIONS, Kind, Rate, RunpodApi
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, FakeClock, QueueClient

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


def hammer(limit: RateLimit, rate: Rate, times: int) -> dict[str, object]:
    """Ask for a job's state from 32 threads, in real time; return what the queue saw."""
    config = replace(CONFIG, rate_window_s=1.0, rates={"status": limit})
    with QueueServer(ENDPOINT_ID, API_KEY, config) as server:
        api = RunpodApi(server.base_url, ENDPOINT_ID, SecretStr(API_KEY), rates={Kind.STATUS: rate})

        def look(_: int) -> None:
            with suppress(JobNotFound):
                api.status("a-job")

        with ThreadPoolExecutor(32) as threads:
            list(threads.map(look, range(times)))
        return server.rate_limits.report()


def test_the_edge_client_keeps_its_rate_on_few_connections() -> None:
    """Of 200 requests 20 go at once and 80 a second, one on each connection at a time."""
    began_s = time.monotonic()
    seen = hammer(RateLimit(per_window=200, at_once=CONNECTIONS), Rate(per_s=80, burst=20), 200)
    assert time.monotonic() - began_s > (200 - 20) / 80 - 0.1
    assert (seen["requests"], seen["refused"]) == ({"status": 200}, {})
    assert 1 <= int(str(seen["connections"])) <= CONNECTIONS


def test_the_edge_client_comes_through_where_others_use_the_limit_up() -> None:
    """Its own rate is too high here: 429s slow it down, and every job is asked for."""
    seen = hammer(RateLimit(per_window=30, at_once=400), Rate(per_s=1000, burst=1000), 60)
    assert int(str(seen["refused"]["status"])) > 0  # type: ignore[index]

"""A queue on a clock that stands still, alone and behind HTTP."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from devstack.api import QueueServer
from devstack.queue import JobQueue, QueueConfig
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, FakeClock, QueueClient


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still."""
    return FakeClock()


@pytest.fixture
def queue(clock: FakeClock) -> JobQueue:
    """Return a queue on that clock."""
    return JobQueue(clock=clock)


@pytest.fixture
def client(clock: FakeClock) -> Iterator[QueueClient]:
    """Yield a client of a queue server with short patience, on a clock that stands still."""
    config = QueueConfig(
        max_run_bytes=2000,
        max_result_bytes=4000,
        take_poll_s=0.3,
        sync_wait_s=0.4,
        webhook_interval_s=0.1,
    )
    with QueueServer(ENDPOINT_ID, API_KEY, config, clock=clock) as server:
        client = QueueClient(server)
        with client.session:
            yield client

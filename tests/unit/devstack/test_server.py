"""A restart cuts and refuses connections, and keeps the jobs."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from devstack.events import EventKind
from tests.fakes.queue_client import QueueClient
from tests.fakes.queue_restart import restart
from tests.processes import wait_until


@contextmanager
def restarting(client: QueueClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Restart the queue in a thread; it is down inside the block."""
    is_down, come_back = threading.Event(), threading.Event()

    def sleep(_: float) -> None:
        is_down.set()
        come_back.wait(20)

    monkeypatch.setattr("tests.fakes.queue_restart.sleep", sleep)
    thread = threading.Thread(target=restart, args=(client.server, 1.0))
    thread.start()
    assert is_down.wait(20)
    try:
        yield
    finally:
        come_back.set()
        thread.join()


def test_jobs_and_address_outlive_a_restart(
    client: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running job can be finished afterwards, a waiting one be taken."""
    running, waiting = client.run(), client.run()
    client.take()
    address = client.server.endpoint_url
    with restarting(client, monkeypatch), pytest.raises(requests.ConnectionError):
        client.status(running)
    assert client.server.endpoint_url == address
    assert client.status(running)["status"] == "IN_PROGRESS"
    assert client.done(running, {"output": 1}).status_code == 200
    assert client.status(running)["status"] == "COMPLETED"
    assert client.take("w") == {"id": waiting, "input": {}}
    threading.Timer(0.1, client.run).start()
    wait_until(client.take)  # polls are held open again


def test_requests_that_are_held_open_are_cut_and_take_no_job(
    client: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job handed to a cut connection would be lost."""
    other = QueueClient(client.server)
    with other.session, ThreadPoolExecutor(1) as thread:
        taken = thread.submit(other.take, "idle")
        wait_until(lambda: client.server.events.so_far())  # the worker joined: its request is open
        with restarting(client, monkeypatch), pytest.raises(requests.ConnectionError):
            taken.result(20)
    job_id = client.run()
    assert client.kinds(job_id) == [EventKind.SUBMITTED]


def test_a_queue_that_is_about_to_go_hands_nothing_over(
    client: QueueClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer might be cut, and a job that its worker never heard of stay at work."""
    monkeypatch.setattr("tests.fakes.queue_restart.HANDOVER_S", 1.0)
    job_id = client.run()
    thread = threading.Thread(target=restart, args=(client.server, 0.0))
    thread.start()
    wait_until(lambda: client.server._changes.is_paused)
    with contextlib.suppress(requests.ConnectionError):
        assert client.take("early") is None
    thread.join()
    assert client.kinds(job_id) == [EventKind.SUBMITTED]
    assert client.take() == {"id": job_id, "input": {}}

"""The queue as clients and workers see it, over HTTP."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from devstack.queue import QueueConfig
from devstack.server import QueueServer
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, FakeClock, QueueClient, wait_until


def test_clients_need_the_key(client: QueueClient) -> None:
    routes = ["POST run", "POST runsync", "GET status/x", "GET status-sync/x", "POST cancel/x"]
    routes += ["POST retry/x", "POST purge-queue", "GET health", "GET _events"]
    for verb, path in (route.split() for route in routes):
        for given in (None, "rpa_test", "Bearer other", "Bearer rpa_tést".encode()):
            headers = {"Authorization": given}
            assert client.call(verb, path, json={"input": {}}, headers=headers).status_code == 401
    assert not client.server.events.since()


def test_a_job_goes_from_client_to_worker_and_back(client: QueueClient) -> None:
    """The input arrives as it was sent; what the worker posts on the way shows as output."""
    job_id = client.run({"url": "https://h/a%20b+ü?X=1%2B2"})
    assert client.take() == {"id": job_id, "input": {"url": "https://h/a%20b+ü?X=1%2B2"}}
    client.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 3}})
    assert client.status(job_id)["output"] == {"percent": 3}
    client.call("POST", f"job-stream/w/{job_id}?gpu=none&isStream=false", json={"output": "part"})
    assert client.status(job_id)["output"] == "part"
    assert client.done(job_id, {"output": {"text": "ü"}}).status_code == 200
    shown = client.status(job_id)
    assert (shown["status"], shown["output"]) == ("COMPLETED", {"text": "ü"})


def test_an_error_fails_the_job_which_can_be_retried(client: QueueClient) -> None:
    job_id = client.run()
    client.take()
    client.done(job_id, {"error": "bad"})
    shown = client.status(job_id)
    assert (shown["status"], shown["error"]) == ("FAILED", "bad")
    assert client.call("POST", f"retry/{job_id}").json() == {"id": job_id, "status": "IN_QUEUE"}
    assert client.call("POST", f"retry/{job_id}").status_code == 400


def test_a_result_that_is_not_json_or_too_large_is_refused(client: QueueClient) -> None:
    """The SDK posts NaN as such; the job then hangs, as it does on RunPod."""
    job_id = client.run()
    client.take()
    for body in (b'{"output": NaN}', b"{", b"[1]", rb'{"output": "\ud800"}', b"\xff"):
        assert client.done(job_id, body).status_code == 400
    assert client.done(job_id, {"output": "x" * 4000}).status_code == 413
    assert client.status(job_id)["status"] == "IN_PROGRESS"
    assert client.kinds(job_id)[-6:] == ["refused_result"] * 6


@pytest.mark.parametrize(("path", "limit"), [("run", 2000), ("runsync", 4000)])
def test_payloads_have_a_limit(client: QueueClient, path: str, limit: int) -> None:
    """The whole body counts, and is read to its end: a reset connection would hide the 413."""
    frame = len(b'{"input":{"x":""}}')
    body = b'{"input":{"x":"%s"}}' % (b"x" * (limit - frame))
    assert len(body) == limit
    assert client.call("POST", path, data=body).status_code == 200
    for more in (1, 11_000_000):
        answer = client.call("POST", path, data=body + b" " * more)
        assert answer.status_code == 413
        assert str(limit) in answer.json()["error"]
    assert len(client.server.events.since()) == 1


BAD_REQUESTS: list[tuple[Any, str]] = [
    ({}, "input"),
    ({"input": "text"}, "input"),
    ({"input": {}, "webhook": "ftp://h"}, "webhook"),
    ({"input": {}, "policy": 5}, "policy"),
    ({"input": {}, "policy": {"executionTimeout": 4999}}, "policy.executionTimeout"),
    ({"input": {}, "policy": {"executionTimeout": 604_800_001}}, "policy.executionTimeout"),
    ({"input": {}, "policy": {"ttl": 9999}}, "policy.ttl"),
    ({"input": {}, "policy": {"ttl": "soon"}}, "policy.ttl"),
    ({"input": {}, "policy": {"tll": 60_000}}, "policy.tll"),
]


def test_a_bad_request_names_the_field(client: QueueClient) -> None:
    for body, name in BAD_REQUESTS:
        answer = client.call("POST", "run", json=body)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{name}: ")
    assert not client.server.events.since()


@pytest.mark.parametrize("end", ["TIMED_OUT", "CANCELLED"])
def test_the_worker_of_an_ended_job_is_told_to_stop(
    client: QueueClient, clock: FakeClock, end: str
) -> None:
    job_id = client.run(policy={"executionTimeout": 7000, "ttl": 60_000})
    client.take()
    if end == "CANCELLED":
        client.call("POST", f"cancel/{job_id}")
    clock.pass_s(7)
    told = wait_until(lambda: client.call("GET", "job-stop/w?gpu=none").text)
    assert json.loads(told) == {"jobsToStop": [job_id]}
    assert client.call("GET", "job-stop/w?gpu=none").status_code == 204
    assert client.status(job_id)["status"] == end


def test_a_poll_is_held_open_until_there_is_a_job() -> None:
    with QueueServer(ENDPOINT_ID, API_KEY, QueueConfig(take_poll_s=60)) as server:
        client = QueueClient(server)
        with client.session:
            threading.Timer(0.1, client.run).start()
            assert client.take() is not None


def test_a_batch_is_a_list(client: QueueClient) -> None:
    """The SDK asks so when more than one slot is free."""
    jobs = [client.run() for _ in range(4)]
    taken = client.call("GET", "job-take-batch/w?gpu=none&batch_size=3&job_in_progress=0").json()
    assert [job["id"] for job in taken] == jobs[:3]
    assert client.call("GET", "job-take-batch/w?gpu=none&batch_size=x").status_code == 400


def test_no_job_is_handed_to_a_closed_connection(client: QueueClient) -> None:
    """It would be lost until the worker falls silent."""
    with pytest.raises(OSError, match="timed out"):
        client.call("GET", "job-take/gone?gpu=none", timeout=0.1)
    job_id = client.run()
    taken = client.take("here")
    assert taken is not None
    assert taken["id"] == job_id


def test_runsync_answers_with_the_result(client: QueueClient) -> None:

    def work() -> None:
        while (job := client.take()) is None:
            pass
        client.done(job["id"], {"output": 5})

    worker = threading.Thread(target=work)
    worker.start()
    answer = client.call("POST", "runsync", json={"input": {}}).json()
    worker.join()
    assert (answer["status"], answer["output"]) == ("COMPLETED", 5)
    assert answer["id"].startswith("sync-")
    answer = client.call("POST", "runsync", json={"input": {}}).json()
    assert answer["status"] == "IN_QUEUE"  # it gives up waiting, and the job goes on
    assert client.call("GET", f"status-sync/{answer['id']}").json()["status"] == "IN_QUEUE"


def test_purge_drops_waiting_jobs_only(client: QueueClient) -> None:
    running, waiting = client.run(), client.run()
    client.take()
    assert client.call("GET", "health").json()["jobs"]["inQueue"] == 1
    assert client.call("POST", "purge-queue").json() == {"removed": 1, "status": "completed"}
    assert client.status(running)["status"] == "IN_PROGRESS"
    for verb, path in (("GET", "status"), ("POST", "cancel"), ("POST", "retry")):
        assert client.call(verb, f"{path}/{waiting}").status_code == 404


def test_a_worker_that_asks_for_a_restart_gets_no_job(client: QueueClient) -> None:
    """`stopPod` retires this worker id; its result counts."""
    job_id = client.run()
    client.take()
    client.done(job_id, {"output": 1, "stopPod": True})
    assert client.status(job_id)["status"] == "COMPLETED"
    client.run()
    assert client.take() is None
    assert client.take("fresh") is not None


def test_events_are_served_in_order(client: QueueClient) -> None:
    """A program can count what happened from outside."""
    job_id = client.run()
    client.take()
    events = client.call("GET", "_events").json()
    assert [event["kind"] for event in events] == ["submitted", "worker_joined", "taken"]
    assert [event["seq"] for event in events] == [0, 1, 2]
    assert client.call("GET", "_events?since=2").json() == [events[2]]
    assert events[2]["job_id"] == job_id
    assert client.call("GET", "_events?since=x").status_code == 400

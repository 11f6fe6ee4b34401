"""The queue as clients and workers see it, over HTTP."""

from __future__ import annotations

import json
import threading
from time import monotonic
from typing import Any

import pytest

from devstack.api import QueueServer
from devstack.events import EventKind
from devstack.queue import QueueConfig
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, FakeClock, QueueClient
from tests.fakes.servers import Reply, RunpodServer
from tests.processes import wait_until


def test_clients_need_the_key(client: QueueClient) -> None:
    routes = ["POST run", "POST runsync", "GET status/x", "GET status-sync/x", "POST cancel/x"]
    routes += ["GET health"]
    for verb, path in (route.split() for route in routes):
        for given in (None, "rpa_tes", "Bearer other", "Bearer rpa_tést".encode()):
            headers = {"Authorization": given}
            assert client.call(verb, path, json={"input": {}}, headers=headers).status_code == 401
    assert not client.server.events.so_far()
    assert client.call("GET", "health", headers={"Authorization": API_KEY}).status_code == 200


def test_a_job_goes_from_client_to_worker_and_back(client: QueueClient) -> None:
    """What the worker posts on the way shows as output."""
    job_id = client.run({"url": "https://h/a%20b+ü?X=1%2B2"})
    assert client.take() == {"id": job_id, "input": {"url": "https://h/a%20b+ü?X=1%2B2"}}
    client.done(job_id, {"status": "IN_PROGRESS", "output": {"percent": 3}})
    assert client.status(job_id)["output"] == {"percent": 3}
    assert client.done(job_id, {"output": {"text": "ü"}}).status_code == 200
    shown = client.status(job_id)
    assert (shown["status"], shown["output"]) == ("COMPLETED", {"text": "ü"})
    job_id = client.run()
    client.take()
    client.done(job_id, {"error": "bad"})
    assert client.status(job_id)["error"] == "bad"


def test_a_result_that_is_not_json_or_too_large_is_refused(client: QueueClient) -> None:
    """The SDK posts NaN as such; the job then hangs, as it does on RunPod."""
    job_id = client.run()
    client.take()
    for body in (b'{"output": NaN}', b"{", b"[1]", rb'{"output": "\ud800"}', b"\xff"):
        assert client.done(job_id, body).status_code == 400
    assert client.done(job_id, {"output": "x" * 4000}).status_code == 413
    assert client.status(job_id)["status"] == "IN_PROGRESS"
    assert client.kinds(job_id)[-6:] == ["refused_result"] * 6


@pytest.mark.parametrize("path", ["run", "runsync"])
def test_payloads_have_a_limit(client: QueueClient, path: str) -> None:
    """The whole body counts, and is read to its end: a reset connection would hide the 413."""
    limit, frame = 2000, len(b'{"input":{"x":""}}')
    body = b'{"input":{"x":"%s"}}' % (b"x" * (limit - frame))
    assert len(body) == limit
    assert client.call("POST", path, data=body).status_code == 200
    for more in (1, 11_000_000):
        answer = client.call("POST", path, data=body + b" " * more)
        assert answer.status_code == 413
        assert str(limit) in answer.json()["error"]
    assert len(client.server.events.so_far()) == 1


def test_a_bad_request_names_the_field(client: QueueClient) -> None:
    bad: dict[str, dict[str, Any]] = {
        "input": {"input": "text"},
        "webhook": {"webhook": "ftp://h"},
        "policy": {"policy": 5},
        "policy.executionTimeout": {"policy": {"executionTimeout": 4999}},
        "policy.tll": {"policy": {"tll": 60_000}},
    }
    for name, fields in bad.items():
        answer = client.call("POST", "run", json={"input": {}} | fields)
        assert answer.status_code == 400
        assert answer.json()["error"].startswith(f"{name}: ")
    assert not client.server.events.so_far()


def test_time_ends_a_job_while_nobody_asks_and_its_worker_is_told_to_stop(
    client: QueueClient, clock: FakeClock
) -> None:
    job_id = client.run(policy={"executionTimeout": 7000, "ttl": 60_000})
    client.take()
    clock.pass_s(7)
    told = wait_until(lambda: client.call("GET", "job-stop/w?gpu=none").text)
    assert json.loads(told) == {"jobsToStop": [job_id]}
    assert client.call("GET", "job-stop/w?gpu=none").status_code == 204
    assert client.status(job_id)["error"] == "executionTimeout exceeded"


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
        client.done(wait_until(client.take)["id"], {"output": 5})

    threading.Thread(target=work).start()
    answer = client.call("POST", "runsync", json={"input": {}}).json()
    assert (answer["status"], answer["output"]) == ("COMPLETED", 5)
    answer = client.call("POST", "runsync", json={"input": {}}).json()
    assert answer["status"] == "IN_QUEUE"  # it gives up waiting, and the job goes on
    assert client.call("GET", f"status-sync/{answer['id']}").json()["status"] == "IN_QUEUE"
    began_s = monotonic()
    client.call("GET", f"status-sync/{answer['id']}?wait=1")
    assert 1.0 <= monotonic() - began_s < 30  # not the 0.4 s of the configuration


def test_what_is_not_known_is_not_found(client: QueueClient) -> None:
    for verb, path in (("GET", "status"), ("GET", "status-sync"), ("POST", "cancel")):
        assert client.call(verb, f"{path}/another").status_code == 404


@pytest.mark.parametrize("refusals", [(), (500,), (204, 302), (500, 500, 500), None])
def test_the_webhook_gets_what_status_shows_until_it_answers_200(
    client: QueueClient, refusals: tuple[int, ...] | None
) -> None:
    """Two retries, as RunPod does, also where nobody listens; its URL stays out of the log."""
    with RunpodServer() as receiver:
        path, redirect = "/hook?secret=hidden", {"Location": "/elsewhere"}
        replies = [Reply(status=status, headers=redirect) for status in refusals or ()]
        receiver.on(path, *replies, Reply())
        receiver.on("/elsewhere", Reply())
        url = "http://127.0.0.1:9/" if refusals is None else receiver.url + path
        job_id = client.run(webhook=url)
        client.take()
        client.done(job_id, {"output": "x"})
        refused = 3 if refusals is None else len(refusals)
        end = [EventKind.WEBHOOK_REFUSED] * refused
        end += [EventKind.WEBHOOK_DELIVERED] if refused < 3 else []
        wait_until(lambda: client.kinds(job_id)[3:] == end)
        threading.Event().wait(0.3 if refused == 3 else 0)  # for a fourth try
    assert client.kinds(job_id)[3:] == end
    expected = 0 if refusals is None else len(end)
    assert [call.body for call in receiver.calls] == [client.status(job_id)] * expected
    assert "hidden" not in repr(client.server.events.so_far())

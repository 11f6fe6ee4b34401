"""The queue as clients and workers see it, over HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from starlette.exceptions import HTTPException

from devstack.api import RateLimits
from devstack.events import EventKind
from devstack.queue import QueueConfig, RateLimit
from devstack.server import QueueServer
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID, FakeClock, QueueClient
from tests.processes import wait_until


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


def test_time_ends_a_job_while_nobody_asks_and_its_worker_is_told_to_stop(
    client: QueueClient, clock: FakeClock
) -> None:
    job_id = client.run(policy={"executionTimeout": 7000, "ttl": 60_000})
    client.take()
    clock.pass_s(7)
    told = wait_until(lambda: client.call("GET", "job-stop/w?gpu=none").text)
    assert json.loads(told) == {"jobsToStop": [job_id]}
    assert client.call("GET", "job-stop/w?gpu=none").status_code == 204
    assert client.status(job_id)["status"] == "TIMED_OUT"


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


LIMITED = QueueConfig(rates={"status": RateLimit(per_window=5, at_once=2)})


def ask(rate_limits: RateLimits, times: int, kind: str = "status") -> None:
    for _ in range(times):
        with rate_limits.admit(kind, "a client"):
            pass


def test_the_window_slides(clock: FakeClock) -> None:
    """What came ten seconds ago no longer counts, what came since does."""
    rate_limits = RateLimits(LIMITED, clock)
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
    rate_limits = RateLimits(LIMITED, clock)
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


class Receiver(ThreadingHTTPServer):
    """Answers with the statuses of `answers` in turn, then 200."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), WebhookHandler)
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}/hook?secret=hidden"


class WebhookHandler(BaseHTTPRequestHandler):
    """What a `Receiver` does with a request."""

    server: Receiver

    def do_POST(self) -> None:
        """Keep the body, and answer."""
        self.server.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        """Please whoever follows a redirect."""
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a receiver that is listening."""
    with Receiver() as receiver:
        threading.Thread(target=receiver.serve_forever, args=(0.02,)).start()
        yield receiver
        receiver.shutdown()


def finish_with_webhook(client: QueueClient, url: str) -> str:
    """Run a job that calls `url` when it ended."""
    job_id = client.run(webhook=url)
    client.take()
    client.done(job_id, {"output": "x"})
    return job_id


@pytest.mark.parametrize("refusals", [[], [500], [204, 302]])
def test_the_webhook_gets_what_status_shows_until_it_answers_200(
    client: QueueClient, receiver: Receiver, refusals: list[int]
) -> None:
    """Its URL stays out of the log."""
    receiver.answers = list(refusals)
    job_id = finish_with_webhook(client, receiver.url)
    wait_until(lambda: EventKind.WEBHOOK_DELIVERED in client.kinds(job_id))
    assert receiver.bodies == [client.status(job_id)] * (len(refusals) + 1)
    assert client.kinds(job_id)[3:] == ["webhook_refused"] * len(refusals) + ["webhook_delivered"]
    assert "hidden" not in client.call("GET", "_events").text


@pytest.mark.parametrize("is_away", [False, True])
def test_after_three_tries_it_is_over(
    client: QueueClient, receiver: Receiver, is_away: bool
) -> None:
    """Two retries, as RunPod does; nothing listens on port 9."""
    receiver.answers = [500] * 9
    url = "http://127.0.0.1:9/" if is_away else receiver.url
    job_id = finish_with_webhook(client, url)
    wait_until(lambda: client.kinds(job_id).count(EventKind.WEBHOOK_REFUSED) == 3)
    threading.Event().wait(0.3)
    assert client.kinds(job_id)[3:] == ["webhook_refused"] * 3
    assert client.status(job_id)["status"] == "COMPLETED"

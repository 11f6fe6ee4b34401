"""Webhooks, against a real receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from devstack.events import EventKind
from tests.fakes.queue_client import QueueClient, wait_until


class Receiver:
    """Answers with the statuses of `answers` in turn, then 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.bodies: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                receiver.bodies.append(json.loads(self.rfile.read(length)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook?secret=hidden"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a receiver that is listening."""
    receiver = Receiver()
    with receiver.server as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield receiver
        server.shutdown()


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

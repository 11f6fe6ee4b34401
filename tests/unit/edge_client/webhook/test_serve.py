"""Receiver and queue together, and how they end; the end-to-end tests end the command."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import requests
import uvicorn

from edge_client import webhook
from edge_client.cli import run
from edge_client.jobs.callback_url import fill
from edge_client.jobs.workqueue import WorkQueue
from edge_client.session import Session
from edge_client.webhook import Secret, bound
from tests.unit.edge_client.webhook.conftest import SECRET, Recorder

A, B = Session("u", "a"), Session("u", "b")


class Service:
    """`receive` in a thread, until `stop`; what it says first is its address."""

    def __init__(self, recorder: Recorder, pool: ThreadPoolExecutor) -> None:
        self.said, self.listening = list[str](), threading.Event()
        args = (Secret(SECRET), bound("127.0.0.1:0"), recorder, self._say)
        self.end: Future[None] = pool.submit(webhook.receive, *args)
        assert self.listening.wait(10)

    def _say(self, line: str) -> None:
        self.said.append(line)
        self.listening.set()

    def call(self, session: Session) -> int:
        """Call as RunPod does."""
        base = self.said[0].removeprefix("listening on ")
        url = fill(f"{base}/hooks/{SECRET}/{{session}}", session)
        return requests.post(url, json={"id": "forged", "output": {}}, timeout=10).status_code


Start = Callable[[Recorder], Service]


class Signals:
    """Those of the main thread, which alone may set them; `send` is for the server."""

    def __init__(self) -> None:
        self.servers, self.handlers = list[uvicorn.Server](), list[object]()

    def set(self, number: int, handler: object) -> None:
        """Note what is set."""
        self.handlers.append(handler)

    def send(self) -> None:
        """Have the servers end, as a signal does."""
        for server in self.servers:
            server.should_exit = True


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> Signals:
    signals = Signals()
    make = webhook.http_server
    monkeypatch.setattr(signal, "signal", signals.set)
    monkeypatch.setattr(
        webhook, "http_server", lambda it: signals.servers.append(make(it)) or signals.servers[-1]
    )
    return signals


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, signals: Signals) -> Iterator[Start]:
    monkeypatch.setattr(webhook, "THREADS", 1)
    with ThreadPoolExecutor(1) as pool:
        yield lambda recorder: Service(recorder, pool)
        signals.send()


def test_end_waits_for_what_is_at_work_and_counts_what_is_left(
    start: Start, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    recorder = Recorder(lambda: go_on.wait(10) and None)
    service = start(recorder)
    assert service.call(A) == 200
    assert recorder.begun.acquire(timeout=10)
    assert service.call(B) == 200
    close = WorkQueue.close
    monkeypatch.setattr(WorkQueue, "close", lambda queue: (close(queue), go_on.set())[0])
    signals.send()
    service.end.result(10)
    assert recorder.calls == [A]
    assert recorder.hints == dict.fromkeys((A, B), "forged")
    assert service.said[1:] == ["stopped; 1 session is left to `edge-client batch` or `wait`"]


def test_public_address_wants_a_proxy_and_a_second_signal_kills(
    start: Start, signals: Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "url_of", lambda listener: "http://192.0.2.1:8787")
    service = start(Recorder())
    signals.send()
    service.end.result(10)
    assert "TLS proxy" in service.said[1]
    assert signals.handlers == [signal.SIG_IGN] * 2 + [signal.SIG_DFL] * 2


def test_secret_prints_what_both_sides_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["webhook", "secret", "--base", "https://h.example/hooks/"]) == 0
    setting, hint = capsys.readouterr().out.splitlines()
    value = setting.removeprefix("WEBHOOK_SECRET=")
    assert Secret(value).place_in([value]) == 0
    assert "'https://h.example/hooks/{secret}/{session}'" in hint

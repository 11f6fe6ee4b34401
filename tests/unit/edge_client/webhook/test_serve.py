"""Receiver and queue together, and how they end; the end-to-end tests end the command."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import requests

from edge_client.cli import run
from edge_client.errors import EdgeError, WaitTimedOut
from edge_client.jobs.callback_url import fill
from edge_client.jobs.workqueue import WorkQueue
from edge_client.session import Session
from edge_client.webhook import serve
from edge_client.webhook.server import Secret, Server
from tests.unit.edge_client.webhook.conftest import SECRET, Recorder

A, B = Session("u", "a"), Session("u", "b")


class Service:
    """`receive` in a thread, until `stop`; what it says first is its address."""

    def __init__(self, recorder: Recorder, pool: ThreadPoolExecutor) -> None:
        self.stop, self.said, self.listening = threading.Event(), list[str](), threading.Event()
        args = (Secret(SECRET), "127.0.0.1:0", recorder, self.stop, self._say)
        self.end: Future[None] = pool.submit(serve.receive, *args)
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


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of the main thread only
    monkeypatch.setattr(serve, "THREADS", 1)
    started: list[Service] = []
    with ThreadPoolExecutor(1) as pool:
        yield lambda recorder: started.append(Service(recorder, pool)) or started[-1]
        for service in started:
            service.stop.set()


def test_end_waits_for_what_is_at_work_and_counts_what_is_left(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    recorder = Recorder(lambda: go_on.wait(10) and None)
    service = start(recorder)
    assert service.call(A) == 200
    assert recorder.begun.acquire(timeout=10)
    assert service.call(B) == 200
    close = WorkQueue.close
    monkeypatch.setattr(WorkQueue, "close", lambda queue: (close(queue), go_on.set())[0])
    service.stop.set()
    service.end.result(10)
    assert recorder.calls == [A]
    assert recorder.hints == dict.fromkeys((A, B), "forged")
    assert service.said[1:] == ["stopped; 1 session is left to `edge-client batch` or `wait`"]


def test_server_that_ends_by_itself_is_an_error_and_a_public_address_wants_a_proxy(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "url", "http://192.0.2.1:8787")
    servers: list[Server] = []
    enter = Server.__enter__
    monkeypatch.setattr(Server, "__enter__", lambda it: servers.append(it) or enter(it))
    service = start(Recorder())
    servers[0]._server.should_exit = True
    with pytest.raises(EdgeError, match="ended by itself"):
        service.end.result(10)
    assert "TLS proxy" in service.said[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_cuts_pauses_short_and_a_second_acts_as_without_us(number: signal.Signals) -> None:
    stop, before = threading.Event(), signal.getsignal(number)
    sleep = serve._until(stop)
    sleep(0.001)
    with serve._signals_set(stop):
        assert signal.getsignal(number) is not before
        signal.raise_signal(number)
        with pytest.raises(WaitTimedOut):
            sleep(60)
        assert signal.getsignal(number) is before


def test_secret_prints_what_both_sides_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["webhook", "secret", "--base", "https://h.example/hooks/"]) == 0
    setting, hint = capsys.readouterr().out.splitlines()
    value = setting.removeprefix("WEBHOOK_SECRET=")
    assert Secret(value).place_in([value]) == 0
    assert f"'https://h.example/hooks/{value}/{{session}}'" in hint

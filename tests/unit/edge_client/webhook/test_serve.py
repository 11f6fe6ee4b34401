"""Receiver, inbox and settlers together; how they end, and what cannot be."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from edge_client.cli import run
from edge_client.errors import EdgeError, WaitTimedOut
from edge_client.jobs.callback_url import fill
from edge_client.session import Session
from edge_client.webhook import serve
from edge_client.webhook.inbox import Inbox
from edge_client.webhook.server import Secret, Server
from tests.unit.edge_client.webhook.conftest import SECRET, Recorder

A, B = Session("u", "a"), Session("u", "b")


class Service:
    """`receive` in a thread; knows its address."""

    def __init__(self, recorder: Recorder) -> None:
        self.stop, self.said = threading.Event(), list[str]()
        self.listening = threading.Event()
        self.error: BaseException | None = None
        self._recorder = recorder
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            serve.receive(Secret(SECRET), "127.0.0.1:0", self._recorder, self.stop, self._say)
        except EdgeError as exc:
            self.error = exc

    def _say(self, line: str) -> None:
        self.said.append(line)
        self.listening.set()

    def end(self) -> None:
        """Stop, as a signal does."""
        self.stop.set()
        self.thread.join(10)

    def call(self, session: Session) -> int:
        """Call as RunPod does."""
        base = self.said[0].removeprefix("listening on ")
        url = fill(f"{base}/hooks/{SECRET}/{{session}}", session)
        return requests.post(url, json={"id": "forged", "output": {}}, timeout=10).status_code


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Recorder], Service]]:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # of the main thread only
    started: list[Service] = []

    def start(recorder: Recorder) -> Service:
        service = Service(recorder)
        started.append(service)
        service.thread.start()
        assert service.listening.wait(10)
        return service

    yield start
    for each in started:
        each.end()


def test_end_waits_for_what_is_at_work_and_counts_what_is_left(
    service: Callable[[Recorder], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "SETTLERS", 1)
    go_on = threading.Event()
    recorder = Recorder(lambda: go_on.wait(10) and None)
    its = service(recorder)
    assert its.call(A) == 200
    assert recorder.begun.acquire(timeout=10)
    assert its.call(B) == 200
    close = Inbox.close
    monkeypatch.setattr(Inbox, "close", lambda inbox: (close(inbox), go_on.set())[0])
    its.end()
    assert recorder.calls == [A]
    assert its.said[-1] == "stopped; 1 session is left to `edge-client batch` or `wait`"


def test_server_that_ends_by_itself_is_an_error(
    service: Callable[[Recorder], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers: list[Server] = []
    enter = Server.__enter__
    monkeypatch.setattr(Server, "__enter__", lambda it: servers.append(it) or enter(it))
    its = service(Recorder())
    servers[0]._server.should_exit = True
    its.thread.join(10)
    assert "ended by itself" in str(its.error)


def test_signal_ends_it_with_exit_code_0(
    env_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", SECRET)
    enter = Server.__enter__

    def enter_and_end(server: Server) -> Server:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
        return enter(server)

    monkeypatch.setattr(Server, "__enter__", enter_and_end)
    before = signal.getsignal(signal.SIGTERM)
    assert run(["webhook", "serve", "--listen", "127.0.0.1:0"]) == 0
    assert signal.getsignal(signal.SIGTERM) is before
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert urlsplit(lines[0].removeprefix("listening on ")).hostname == "127.0.0.1"
    assert lines[-1] == "stopped"
    assert "plain HTTP" not in err
    logging.getLogger("edge_client.webhook").setLevel(logging.NOTSET)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_acts_as_it_would_without_us(number: signal.Signals) -> None:
    stop, before = threading.Event(), signal.getsignal(number)
    with serve._signals_set(stop):
        assert signal.getsignal(number) is not before
        signal.raise_signal(number)
        assert stop.is_set()
        assert signal.getsignal(number) is before


def test_end_cuts_pauses_short() -> None:
    stop = threading.Event()
    sleep = serve._until(stop)
    sleep(0.001)
    stop.set()
    with pytest.raises(WaitTimedOut):
        sleep(60)


def test_public_address_wants_a_proxy(
    service: Callable[[Recorder], Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Server, "url", "http://192.0.2.1:8787")
    its = service(Recorder())
    its.end()
    assert "TLS proxy" in its.said[1]


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["serve"], 3, "WEBHOOK_SECRET"),
        (["secret", "--base", "http://h.example"], 2, "https"),
        ([], 2, "Missing command"),
    ],
)
def test_what_cannot_be_is_one_line(
    env_file: Path, argv: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["webhook", *argv]) == code
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_secret_prints_what_both_sides_need(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["webhook", "secret", "--base", "https://h.example/hooks/"]) == 0
    setting, hint = capsys.readouterr().out.splitlines()
    value = setting.removeprefix("WEBHOOK_SECRET=")
    assert Secret(value).place_in([value]) == 0
    assert f"'https://h.example/hooks/{value}/{{session}}'" in hint

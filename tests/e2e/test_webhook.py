"""Sessions finished by `webhook serve` alone: nobody waits for them, the queue calls back."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests

from devstack.events import EventKind
from edge_client.jobs.callback_url import fill
from edge_client.jobs.claim import Claim
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from edge_client.webhook import fresh_secret
from tests.e2e.conftest import UNREADABLE, Bench, RunningEdge

USER = "webhook +1"
SECRET = fresh_secret()
LYING = {"id": "x", "status": "COMPLETED", "output": {"status": "ok", "result": {"bytes": 1}}}


class Receiver(RunningEdge):
    """A running `webhook serve`."""

    def __init__(self, bench: Bench, log: Path, listen: str = "127.0.0.1:0") -> None:
        command = ("webhook", "serve", "--listen", listen)
        super().__init__(bench, log, *command, WEBHOOK_SECRET=SECRET)
        self.until("listening on ")
        self.url = self.said.splitlines()[0].removeprefix("listening on ")
        self.template = f"{self.url}/hooks/{SECRET}/{{session}}"

    def call(self, session: Session, secret: str = SECRET) -> int:
        """Call as RunPod does, with a body that lies."""
        url = fill(f"{self.url}/hooks/{secret}/{{session}}", session)
        return requests.post(url, json=LYING, timeout=10).status_code


@pytest.fixture(scope="module")
def receiver(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    receiver = Receiver(bench, tmp_path_factory.mktemp("webhook") / "serve.log")
    yield receiver
    code, said = receiver.end(), receiver.said
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    for secret in (SECRET, "/hooks", "Traceback"):
        assert secret not in said


def submit(bench: Bench, name: str, recording: bytes, template: str) -> Session:
    """Upload a recording, and submit it."""
    session = Session(USER, name)
    bench.put(session.audio_key, recording)
    bench.edge_client("submit", session.prefix, "--webhook", template)
    return session


@contextmanager
def paused_workers(bench: Bench) -> Iterator[None]:
    """Jobs that are submitted meanwhile do not end."""
    workers = [psutil.Process(pid) for pid in bench.stack.worker_pids()]
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()


def test_transcript_is_reported_done_once_called_and_a_second_call_changes_nothing(
    bench: Bench, receiver: Receiver, short_wav: bytes
) -> None:
    session = submit(bench, "ses sion+%41 ü", short_wav, receiver.template)
    receiver.until(f"{session}: done")
    assert parse(bench.read(session.result_key)).lines
    before = bench.keys(session.prefix + "/"), bench.submissions()
    assert receiver.call(session) == 200
    receiver.until(f"{session}: done", times=2)
    assert (bench.keys(session.prefix + "/"), bench.submissions()) == before


def test_failure_for_good_is_in_the_claim(bench: Bench, receiver: Receiver) -> None:
    session = submit(bench, "unreadable", UNREADABLE, receiver.template)
    receiver.until(f"{session}: failed")
    claim = Claim.model_validate_json(bench.read(session.claim_key))
    assert (claim.ended or "").startswith("AUDIO_UNREADABLE")
    delivered = bench.stack.queue_events(EventKind.WEBHOOK_DELIVERED)
    assert [event.job_id for event in delivered].count(claim.job_id) == 1


def test_forged_callback_changes_nothing(
    bench: Bench, receiver: Receiver, short_wav: bytes
) -> None:
    unknown = Session(USER, "unknown")
    with paused_workers(bench):
        running = submit(bench, "running", short_wav, receiver.template)
        before = bench.keys(running.prefix + "/"), bench.submissions()
        assert receiver.call(running, fresh_secret()) == 404
        assert f"{running}: called" not in receiver.said
        for session in (running, unknown):  # the right secret and a lying body
            assert receiver.call(session) == 200
        receiver.until(f"{running}: its job has not ended")
        receiver.until(f"{unknown}: nothing was submitted")
        assert (bench.keys(running.prefix + "/"), bench.submissions()) == before
        assert bench.keys(unknown.prefix + "/") == {}
        bench.edge_client("cancel", running.prefix)
    receiver.until(f"{running}: cancelled")


def test_what_a_killed_receiver_missed_is_found_by_wait(
    bench: Bench, tmp_path: Path, short_wav: bytes
) -> None:
    first = Receiver(bench, tmp_path / "killed.log")
    before = len(bench.submissions())
    with paused_workers(bench):
        session = submit(bench, "killed", short_wav, first.template)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    bench.edge_client("wait", session.prefix)
    assert session.result_key in bench.keys(session.prefix + "/")
    assert len(bench.submissions()) == before + 1

    again = Receiver(bench, tmp_path / "again.log", first.url.removeprefix("http://"))
    session = submit(bench, "after", short_wav, first.template)
    again.until(f"{session}: done")
    assert again.end(signal.SIGINT) == 0

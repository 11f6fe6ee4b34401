"""Sessions finished by `webhook serve` alone: nobody waits for them, the queue calls back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
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
from edge_client.webhook.server import fresh_secret
from tests.e2e.conftest import UNREADABLE, Bench

USER = "webhook +1"
SECRET = fresh_secret()
LYING = {"id": "x", "status": "COMPLETED", "output": {"status": "ok", "result": {"bytes": 1}}}


class Receiver:
    """A running `webhook serve`."""

    def __init__(self, bench: Bench, log: Path, listen: str = "127.0.0.1:0") -> None:
        self._log = log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_client", "webhook", "serve", "--listen", listen],
                env={**bench.env, "WEBHOOK_SECRET": SECRET},
                cwd=log.parent,
                stderr=stderr,
            )
        self.until(lambda: "listening on " in self.said)
        self.url = self.said.splitlines()[0].removeprefix("listening on ")
        self.template = f"{self.url}/hooks/{SECRET}/{{session}}"

    @property
    def said(self) -> str:
        """All that it logged."""
        return self._log.read_text()

    def until(self, holds: Callable[[], bool], limit_s: float = 120) -> None:
        """Wait until something holds, while it runs."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def call(self, session: Session, secret: str = SECRET) -> int:
        """Call as RunPod does, with a body that lies."""
        url = fill(f"{self.url}/hooks/{secret}/{{session}}", session)
        return requests.post(url, json=LYING, timeout=10).status_code

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self._process.send_signal(number)
        return self._process.wait(30)


@pytest.fixture(scope="module")
def receiver(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Receiver]:
    receiver = Receiver(bench, tmp_path_factory.mktemp("webhook") / "serve.log")
    yield receiver
    code, said = receiver.end(), receiver.said
    bench.printed.append(said)
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    for secret in (SECRET, "/hooks", "Traceback"):
        assert secret not in said


def submit(bench: Bench, name: str, recording: bytes, template: str) -> Session:
    """Upload a recording, and submit it."""
    session = Session(USER, name)
    bench.put(session.audio_key, recording)
    bench.edge_client("submit", session.prefix, "--webhook", template)
    return session


def objects(bench: Bench, session: Session) -> dict[str, str]:
    """What S3 holds of a session: keys and ETags."""
    s3 = bench.stack.s3
    page = s3.client().list_objects_v2(Bucket=s3.bucket, Prefix=session.prefix + "/")
    return {entry["Key"]: entry["ETag"] for entry in page.get("Contents", ())}


def submissions(bench: Bench) -> int:
    return len(bench.stack.queue_events(EventKind.SUBMITTED))


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
    receiver.until(lambda: f"{session}: done" in receiver.said)
    assert parse(bench.read(session.result_key)).lines
    before = objects(bench, session), submissions(bench)
    assert receiver.call(session) == 200
    receiver.until(lambda: receiver.said.count(f"{session}: done") == 2)
    assert (objects(bench, session), submissions(bench)) == before


def test_failure_for_good_is_in_the_claim(bench: Bench, receiver: Receiver) -> None:
    session = submit(bench, "unreadable", UNREADABLE, receiver.template)
    receiver.until(lambda: f"{session}: failed" in receiver.said)
    claim = Claim.model_validate_json(bench.read(session.claim_key))
    assert (claim.ended or "").startswith("AUDIO_UNREADABLE")
    assert [
        event.job_id
        for event in bench.stack.queue_events(EventKind.WEBHOOK_DELIVERED)
        if event.job_id == claim.job_id
    ] == [claim.job_id]


def test_forged_callback_changes_nothing(
    bench: Bench, receiver: Receiver, short_wav: bytes
) -> None:
    unknown = Session(USER, "unknown")
    with paused_workers(bench):
        running = submit(bench, "running", short_wav, receiver.template)
        before = objects(bench, running), submissions(bench)
        assert receiver.call(running, fresh_secret()) == 404
        assert f"{running}: called" not in receiver.said
        for session in (running, unknown):  # the right secret and a lying body
            assert receiver.call(session) == 200
        receiver.until(lambda: f"{running}: its job has not ended" in receiver.said)
        receiver.until(lambda: f"{unknown}: nothing was submitted" in receiver.said)
        assert (objects(bench, running), submissions(bench)) == before
        assert objects(bench, unknown) == {}
        bench.edge_client("cancel", running.prefix)
    receiver.until(lambda: f"{running}: cancelled" in receiver.said)


def test_what_a_killed_receiver_missed_is_found_by_wait(
    bench: Bench, tmp_path: Path, short_wav: bytes
) -> None:
    first = Receiver(bench, tmp_path / "killed.log")
    before = submissions(bench)
    with paused_workers(bench):
        session = submit(bench, "killed", short_wav, first.template)
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    bench.edge_client("wait", session.prefix)
    assert session.result_key in objects(bench, session)
    assert submissions(bench) - before == 1

    again = Receiver(bench, tmp_path / "again.log", first.url.removeprefix("http://"))
    session = submit(bench, "after", short_wav, first.template)
    again.until(lambda: f"{session}: done" in again.said)
    assert again.end(signal.SIGINT) == 0

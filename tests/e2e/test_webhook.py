"""Jobs finished by `webhook serve` alone: SeaweedFS, the queue's own callbacks, the SDK's worker.

Nobody waits for these jobs: what ends in S3 was settled because the queue called.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from devstack import Stack
from devstack.events import EventKind
from devstack.queue import QueueConfig
from devstack.stack import write_env_file
from edge_client.jobs.callback_url import fill
from edge_client.jobs.claim import Claim
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from edge_client.webhook.server import fresh_secret
from tests.unit.edge_client.samples import wav

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
SECRET = fresh_secret()
LYING = {"id": "x", "status": "COMPLETED", "output": {"status": "ok", "result": {"bytes": 1}}}


class Box:
    """An edge box: its folder with .env, and the stack that it talks to."""

    def __init__(self, stack: Stack, home: Path, s3: Any) -> None:
        self.stack, self.home, self.s3 = stack, home, s3
        self.bucket = stack.env["COGNITO_S3_BUCKET"]
        self.env = {
            "PYTHONPATH": str(ROOT),
            "PATH": "",
            "HOME": str(home),
            "RETRY_DELAY_SECONDS": "0.2",
            "WEBHOOK_SECRET": SECRET,
        }

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "edge_client", *argv],
            cwd=self.home,
            env=self.env,
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def submit(self, name: str, deed: str, template: str) -> Session:
        """Upload a recording, and submit it."""
        session = Session("u 1", name)
        self.s3.put_object(Bucket=self.bucket, Key=session.audio_key, Body=wav(4))
        done = self.run("submit", session.prefix, "--hotwords", deed, "--webhook", template)
        assert done.returncode == 0, done.stderr
        return session

    def objects(self, session: Session) -> dict[str, tuple[str, Any]]:
        """What is in S3 of a session: key to ETag and time."""
        page = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=session.prefix + "/")
        return {o["Key"]: (o["ETag"], o["LastModified"]) for o in page.get("Contents", ())}

    def is_done(self, session: Session) -> bool:
        """Whether there is a transcript."""
        return session.result_key in self.objects(session)

    def read(self, key: str) -> bytes:
        """Read an object."""
        body: bytes = self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def claim(self, session: Session) -> Claim:
        """Read a claim."""
        return Claim.model_validate_json(self.read(session.claim_key))

    def events(self, kind: EventKind, job_id: str | None = None) -> int:
        """Count what happened in the queue."""
        return sum(job_id in (None, e.job_id) for e in self.stack.queue_events(kind))


class Serving:
    """A running ``webhook serve``."""

    def __init__(self, box: Box, log: Path, listen: str = "127.0.0.1:0") -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_client", "webhook", "serve", "--listen", listen],
                cwd=box.home,
                env=box.env,
                stderr=stderr,
            )
        self.until(lambda: "listening on " in self.said)
        self.url = self.said.splitlines()[0].removeprefix("listening on ")
        self.template = f"{self.url}/hooks/{SECRET}/{{session}}"

    @property
    def said(self) -> str:
        """All that it logged."""
        return self.log.read_text()

    def until(self, holds: Callable[[], bool], limit_s: float = 60) -> None:
        """Wait until something holds, while it runs."""
        deadline = time.monotonic() + limit_s
        while not holds():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def call(self, session: Session, template: str = "") -> int:
        """Call as RunPod does, with a body that lies."""
        url = fill(template or self.template, session)
        return requests.post(url, json=LYING, timeout=10).status_code

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    home = tmp_path_factory.mktemp("webhook")
    command = (sys.executable, "-m", "tests.fakes.worker_process", "sdk")
    config = QueueConfig(webhook_interval_s=0.2)
    with Stack(logs=home / "logs", worker_command=command, config=config) as stack:
        write_env_file(home / ".env", stack.env)
        s3 = stack.s3.client()
        yield Box(stack, home, s3)
        s3.close()


@pytest.fixture(scope="module")
def serving(box: Box) -> Iterator[Serving]:
    serving = Serving(box, box.home / "serve.log")
    yield serving
    code, said = serving.end(), serving.said
    assert (code, said.splitlines()[-1]) == (0, "stopped")
    for secret in (SECRET, "/hooks", "X-Amz-", "Traceback"):
        assert secret not in said


def test_transcript_in_the_answer_reaches_s3(box: Box, serving: Serving) -> None:
    session = box.submit("ses sion+%41 ü", "upload_failed", serving.template)
    serving.until(lambda: box.is_done(session))
    assert len(parse(box.read(session.result_key)).lines) == 2
    serving.until(lambda: f"{session}: done: the worker could not reach S3" in serving.said)


def test_stored_transcript_needs_nothing_more(box: Box, serving: Serving) -> None:
    session = box.submit("plain", "slow-3", serving.template)
    serving.until(lambda: f"{session}: done" in serving.said)
    assert box.is_done(session)
    assert json.loads(box.run("submit", session.prefix, "--json").stdout)["state"] == "already_done"


def test_failing_job_is_recovered_by_another_with_the_same_webhook(
    box: Box, serving: Serving
) -> None:
    before = box.events(EventKind.SUBMITTED)
    session = box.submit("flaky", "flaky", serving.template)
    serving.until(lambda: f"{session}: done" in serving.said)
    assert box.is_done(session)
    assert box.events(EventKind.SUBMITTED) - before == 2
    claim = box.claim(session)
    assert [attempt.ended for attempt in claim.earlier] == ["STORAGE_UNAVAILABLE"]
    assert box.events(EventKind.WEBHOOK_DELIVERED, claim.job_id) == 1
    assert box.events(EventKind.WEBHOOK_DELIVERED, claim.earlier[0].job_id) == 1


def test_failure_for_good_is_in_the_claim(box: Box, serving: Serving) -> None:
    session = box.submit("bad", "fail", serving.template)
    serving.until(lambda: f"{session}: failed" in serving.said)
    assert (box.claim(session).ended or "").startswith("AUDIO_UNREADABLE")


def test_callback_that_comes_twice_changes_nothing(box: Box, serving: Serving) -> None:
    session = box.submit("twice", "upload_failed", serving.template)
    serving.until(lambda: f"{session}: done" in serving.said)
    before = box.objects(session), box.events(EventKind.SUBMITTED)
    assert serving.call(session) == 200
    serving.until(lambda: serving.said.count(f"{session}: done") == 2)
    assert (box.objects(session), box.events(EventKind.SUBMITTED)) == before


def test_forged_callback_changes_nothing(box: Box, serving: Serving) -> None:
    running = box.submit("running", "slow", serving.template)
    unknown = Session("u 1", "unknown")
    before = box.objects(running), box.events(EventKind.SUBMITTED)
    assert serving.call(running, f"{serving.url}/hooks/{fresh_secret()}/{{session}}") == 404
    assert f"{running}: called" not in serving.said
    for session in (running, unknown):  # the right secret and a lying body
        assert serving.call(session) == 200
    serving.until(lambda: f"{running}: its job has not ended" in serving.said)
    serving.until(lambda: f"{unknown}: nothing was submitted" in serving.said)
    assert (box.objects(running), box.events(EventKind.SUBMITTED)) == before
    assert box.objects(unknown) == {}
    assert box.run("cancel", running.prefix).returncode == 0
    serving.until(lambda: f"{running}: cancelled" in serving.said)


def test_what_a_killed_receiver_missed_is_found_by_wait(box: Box) -> None:
    first = Serving(box, box.home / "killed.log")
    before = box.events(EventKind.SUBMITTED)
    session = box.submit("killed", "upload_failed", first.template)
    assert first.end(signal.SIGKILL) == -signal.SIGKILL
    waited = box.run("wait", session.prefix)
    assert waited.returncode == 0, waited.stderr
    assert box.is_done(session)
    assert box.events(EventKind.SUBMITTED) - before == 1

    again = Serving(box, box.home / "again.log", first.url.removeprefix("http://"))
    session = box.submit("after", "upload_failed", first.template)
    again.until(lambda: box.is_done(session))
    assert again.end(signal.SIGINT) == 0

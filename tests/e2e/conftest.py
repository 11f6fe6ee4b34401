"""One stack with one real worker for all end-to-end tests."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from bucketscribe_contract import JobFailure
from devstack import EventKind, Stack
from devstack.demo import telephone_wav
from devstack.queue import QueueConfig
from tests.processes import wait_until
from tests.recordings import SHORT_SPEECH, short_speech, write_recording

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[2]
SIGNATURE = re.compile(r"X-Amz-Signature(=|%3D)[0-9a-f]", re.IGNORECASE)
UNREADABLE = b"RIFF\x24\x00\x00\x00WAVE" + b"no audio in it " * 100
FINAL = {"COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"}


@dataclass
class Bench:
    """What a test does with the stack; keeps all that people could have read."""

    stack: Stack
    printed: list[str] = field(default_factory=list)

    @cached_property
    def s3(self) -> S3Client:
        """Boto3's client, with the edge's keys."""
        return self.stack.s3.client()

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        self.s3.put_object(Bucket=self.stack.s3.bucket, Key=key, Body=body)

    def get(self, key: str) -> dict[str, Any]:
        """Ask S3 for an object."""
        return self.s3.get_object(Bucket=self.stack.s3.bucket, Key=key)

    def keys(self, prefix: str = "") -> dict[str, str]:
        """List a prefix: keys and ETags."""
        pages = self.s3.get_paginator("list_objects_v2").paginate(
            Bucket=self.stack.s3.bucket, Prefix=prefix
        )
        return {entry["Key"]: entry["ETag"] for page in pages for entry in page.get("Contents", ())}

    def read(self, key: str) -> bytes:
        """Read an object."""
        return self.get(key)["Body"].read()

    def get_json(self, key: str) -> Any:
        """Read a JSON object."""
        return json.loads(self.read(key))

    def presign(self, key: str, method: str = "get_object", expires_s: int = 3600) -> str:
        """Sign a URL with the edge's keys."""
        more = {"ContentType": "application/json"} if method == "put_object" else {}
        params = {"Bucket": self.stack.s3.bucket, "Key": key, **more}
        return self.s3.generate_presigned_url(method, Params=params, ExpiresIn=expires_s)

    @property
    def env(self) -> dict[str, str]:
        """The edge client's variables."""
        return {**os.environ, **self.stack.env, "PYTHONPATH": str(ROOT)}

    def edge_client(self, *arguments: str, code: int = 0) -> str:
        """Run the real edge client; return what it printed on stdout."""
        done = subprocess.run(
            [sys.executable, "-m", "edge_client", *arguments],
            env=self.env,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if "presign" not in arguments:  # whose purpose is to print what is signed
            self.printed += [done.stdout, done.stderr]
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Speak to the queue as a client."""
        env = self.stack.env
        answer = requests.request(
            method,
            f"{env['RUNPOD_ENDPOINT_BASE_URL']}/{env['RUNPOD_ENDPOINT_ID']}/{path}",
            json=body,
            headers={"Authorization": f"Bearer {env['RUNPOD_API_KEY']}"},
            timeout=30,
        )
        answer.raise_for_status()
        return answer.json()

    def submit(self, job: dict[str, Any]) -> str:
        """Put a raw job into the queue."""
        return str(self.call("POST", "run", {"input": job})["id"])

    def submissions(self) -> list[str]:
        """Return the jobs that the queue took so far."""
        return [str(event.job_id) for event in self.stack.queue_events(EventKind.SUBMITTED)]

    def result(self, job_id: str, timeout_s: float = 120) -> dict[str, Any]:
        """Wait for a job's end."""

        def ended() -> dict[str, Any] | None:
            status: dict[str, Any] = self.call("GET", f"status/{job_id}")
            return status if status["status"] in FINAL else None

        status: dict[str, Any] = wait_until(ended, timeout_s, f"the end of job {job_id}")
        self.printed.append(json.dumps(status))
        return status

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Submit a raw job and wait for its end."""
        return self.result(self.submit(job))

    def failure(self, job: dict[str, Any]) -> JobFailure:
        """Run a job that must fail; return its failure."""
        status = self.run(job)
        assert status["status"] == "FAILED", status
        return JobFailure.model_validate_json(status["error"])


class RunningEdge:
    """The edge client at work, whose log is watched."""

    def __init__(self, bench: Bench, log: Path, *arguments: str, **env: str) -> None:
        self._bench, self._log = bench, log
        with log.open("w") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "edge_client", *arguments],
                env={**bench.env, **env},
                cwd=log.parent,
                stderr=stderr,
            )

    @property
    def said(self) -> str:
        """All that it logged."""
        return self._log.read_text()

    def until(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so often."""

        def has_said() -> bool:
            assert self._process.poll() is None, self.said
            return self.said.count(text) >= times

        wait_until(has_said, 120, repr(text))

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it; return its exit code."""
        self._process.send_signal(number)
        code = self._process.wait(30)
        self._bench.printed.append(self.said)
        return code


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """The stack with one real worker; at its end nothing that people read may hold a secret."""
    with Stack(
        logs=tmp_path_factory.mktemp("logs"),
        worker_env={"MAX_AUDIO_BYTES": "9000000"},
        config=QueueConfig(webhook_interval_s=0.2),
    ) as stack:
        bench = Bench(stack)
        # Clients of a worker that still loads its models would soon look at their jobs seldom.
        bench.run({"audio_base64": base64.b64encode(SHORT_SPEECH.read_bytes()).decode()})
        yield bench
        assert list(stack.worker_home.rglob("bucketscribe-*")) == [], "jobs' files are left"
        for pid in stack.worker_pids():
            assert b"AWS_" not in Path(f"/proc/{pid}/environ").read_bytes()
        _check_that_nobody_reads_a_secret(bench)


def _check_that_nobody_reads_a_secret(bench: Bench) -> None:
    logs = [path for path in bench.stack.logs.rglob("*") if path.is_file()]
    assert {"queue.jsonl", "s3.log", "worker-1.log"} <= {path.name for path in logs}
    texts = [*bench.printed, *(path.read_text(errors="replace") for path in logs)]
    for secret in (bench.stack.env["AWS_SECRET_ACCESS_KEY"], bench.stack.env["RUNPOD_API_KEY"]):
        assert not [text for text in texts if secret in text]
    assert not [text for text in texts if SIGNATURE.search(text)]


@pytest.fixture(scope="session")
def telephone() -> bytes:
    """30 s of a real telephone conversation."""
    return telephone_wav().read_bytes()


@pytest.fixture(scope="session")
def short_wav(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A few seconds of synthetic speech, as a WAV file."""
    path = tmp_path_factory.mktemp("speech") / "short.wav"
    write_recording(path, short_speech())
    return path.read_bytes()

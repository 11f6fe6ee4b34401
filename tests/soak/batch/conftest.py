"""A stack of each test's own, sessions in its bucket, the client on it, and what it submitted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from devstack import EventKind, Stack
from devstack.stack import write_env_file
from edge_client.jobs.claim import Claim
from edge_client.jobs.retry_policy import Ending, cause_name
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.unit.edge_client.samples import wav

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[3]
WORKER = (sys.executable, "-m", "tests.fakes.worker_process")
QUICK = {"RETRY_DELAY_SECONDS": "2", "LOST_ANSWER_SECONDS": "3"}
"""The pauses of 2 and 4 s before a third try outlast the queue's restarts."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Box:
    """A running stack, and a folder to run the client in."""

    stack: Stack
    home: Path
    s3: S3Client

    def record(self, sessions: Iterable[Session]) -> None:
        """Upload a recording for each session."""
        audio, bucket = wav(2), self.stack.s3.bucket

        def put(session: Session) -> None:
            self.s3.put_object(Bucket=bucket, Key=session.audio_key, Body=audio)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, sessions))

    def start(
        self, output: IO[bytes], *argv: str, module: Sequence[str] = ("edge_client",)
    ) -> subprocess.Popen[bytes]:
        """Start the client, or one that SIGKILL ends."""
        return subprocess.Popen(
            [sys.executable, "-m", *module, *argv],
            cwd=self.home,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(self.home), **QUICK},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def client(
        self, *argv: str, module: Sequence[str] = ("edge_client",), code: int | None = 0
    ) -> int:
        """Run the client to its end, or to its death; return its exit code."""
        log = self.home / "client.log"
        with log.open("wb") as output:
            ended = self.start(output, *argv, module=module).wait(280)
        assert code is None or ended == code, log.read_text()[-2000:]
        return ended

    def submissions(self) -> list[str]:
        """Return the jobs that the queue took so far."""
        return [str(e.job_id) for e in self.stack.queue_events(EventKind.SUBMITTED)]

    def missing(self, sessions: Sequence[Session]) -> list[str]:
        """Return the sessions that have no transcript or no claim."""
        keys: set[str] = set()
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.stack.s3.bucket)
        for page in pages:
            keys |= {entry["Key"] for entry in page.get("Contents", ())}
        return [s.prefix for s in sessions if not {s.result_key, s.claim_key} <= keys]

    def stored(self, sessions: Sequence[Session]) -> list[tuple[Claim, str | None]]:
        """Return each session's claim, and the request that its transcript answers."""

        def body(key: str) -> bytes:
            return self.s3.get_object(Bucket=self.stack.s3.bucket, Key=key)["Body"].read()

        def read(session: Session) -> tuple[Claim, str | None]:
            claim = Claim.model_validate_json(body(session.claim_key))
            return claim, parse(body(session.result_key)).request_id

        missing = self.missing(sessions)
        assert not missing, f"no transcript: {missing}"
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(read, sessions))

    def check_each_once(self, sessions: Sequence[Session], *, may_be_lost: bool = False) -> None:
        """Hold the queue's log and the bucket against each other.

        The log has as many submissions as there are sessions, and every session has the
        transcript of its own one: so none was submitted twice, and none is missing.

        Args:
            sessions: All that there are.
            may_be_lost: Submissions that never reached the queue may have come before: the batch
                was killed, or the queue was gone, between claim and POST.
        """
        submitted, stored = self.submissions(), self.stored(sessions)
        assert all(claim.request_id == request_id for claim, request_id in stored)
        earlier = {attempt.ended for claim, _ in stored for attempt in claim.earlier}
        assert earlier <= ({cause_name(Ending.UNANSWERED)} if may_be_lost else set())
        named = [claim.job_id for claim, _ in stored if claim.job_id is not None]
        assert len(set(named)) == len(named)
        assert set(named) <= set(submitted)
        assert len(submitted) == len(sessions)


def sessions(count: int, suffix: str = "", users: int = 10) -> list[Session]:
    """Return so many sessions, spread over users."""
    return [Session(f"u{i % users:03}", f"s{i:05}{suffix}") for i in range(count)]


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A stack with one worker that answers at once."""
    with Stack(logs=tmp_path / "logs", worker_command=WORKER, grace_s=2) as stack:
        write_env_file(tmp_path / ".env", stack.env)
        s3 = stack.s3.client()
        yield Box(stack, tmp_path, s3)
        s3.close()


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> Tell:
    """Print a figure, whatever pytest captures."""

    def say(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{request.node.name}: {line}")
            sys.stdout.flush()

    return say

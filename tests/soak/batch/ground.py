"""A stack, sessions in its bucket, the client on it, and who was submitted how often."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from devstack import EventKind, QueueConfig, Stack
from devstack.stack import write_env_file
from edge_client.jobs.claim import Claim
from edge_client.jobs.retry_policy import Ending, cause_name
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.unit.edge_client.samples import wav

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ROOT = Path(__file__).parents[3]
INSTANT = (sys.executable, "-m", "tests.soak.batch.instant_worker")
QUICK = {"RETRY_DELAY_SECONDS": "2", "LOST_ANSWER_SECONDS": "3"}
"""The pauses of 2 and 4 s before a third try outlast the queue's restarts."""


@dataclass(frozen=True)
class Ground:
    """A running stack, and a folder to run the client in."""

    stack: Stack
    home: Path
    s3: S3Client

    @property
    def bucket(self) -> str:
        """The recordings' bucket."""
        return self.stack.s3.bucket

    def record(self, sessions: Iterable[Session], body: bytes | None = None) -> None:
        """Upload a recording for each session."""
        audio = wav(2) if body is None else body

        def put(session: Session) -> None:
            self.s3.put_object(Bucket=self.bucket, Key=session.audio_key, Body=audio)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, sessions))

    def client(
        self, *argv: str, module: str = "edge_client", timeout_s: float = 280
    ) -> subprocess.CompletedProcess[str]:
        """Run the client to its end, or to its death."""
        return subprocess.run(
            [sys.executable, "-m", module, *argv],
            cwd=self.home,
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def start(self, output: IO[bytes], *argv: str) -> subprocess.Popen[bytes]:
        """Start the client."""
        return subprocess.Popen(
            [sys.executable, "-m", "edge_client", *argv],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    @property
    def environment(self) -> dict[str, str]:
        """The client's variables; the stack's are in the .env of its folder."""
        return {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(self.home), **QUICK}

    def submissions(self) -> list[str]:
        """Return the jobs that the queue took so far."""
        return [str(e.job_id) for e in self.stack.queue_events(EventKind.SUBMITTED)]

    def stored(self, sessions: Sequence[Session]) -> list[tuple[Claim, str | None]]:
        """Return each session's claim, and the request that its transcript answers."""

        def read(session: Session) -> tuple[Claim, str | None]:
            claim = Claim.model_validate_json(self._body(session.claim_key))
            return claim, parse(self._body(session.result_key)).request_id

        missing = self.missing(sessions)
        assert not missing, f"no transcript: {missing}"
        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(read, sessions))

    def missing(self, sessions: Sequence[Session]) -> list[str]:
        """Return the sessions that have no transcript or no claim."""
        keys: set[str] = set()
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket):
            keys |= {entry["Key"] for entry in page.get("Contents", ())}
        return [s.prefix for s in sessions if not {s.result_key, s.claim_key} <= keys]

    def _body(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

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

    def traffic(self) -> dict[str, Any]:
        """Return what the queue counted of the clients' requests."""
        return self.stack.queue.rate_limits.report()


def sessions(count: int, suffix: str = "", users: int = 10) -> list[Session]:
    """Return so many sessions, spread over users."""
    return [Session(f"u{i % users:03}", f"s{i:05}{suffix}") for i in range(count)]


@contextmanager
def ground(
    home: Path,
    worker: Sequence[str] = INSTANT,
    config: QueueConfig | None = None,
) -> Iterator[Ground]:
    """Start a stack with one worker."""
    with Stack(logs=home / "logs", worker_command=worker, config=config, grace_s=2) as stack:
        write_env_file(home / ".env", stack.env)
        s3 = stack.s3.client()
        try:
            yield Ground(stack, home, s3)
        finally:
            s3.close()

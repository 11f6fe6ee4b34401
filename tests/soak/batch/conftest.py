"""A stack of each test's own, sessions in its bucket, the client on it, and what it submitted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack import Stack
from devstack.stack import write_env_file
from edge_client.jobs.claim import Claim
from edge_client.jobs.retry_policy import Ending, cause_name
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.e2e.conftest import ROOT, Bench
from tests.unit.edge_client.samples import wav

WORKER = (sys.executable, "-m", "tests.fakes.worker_process")
QUICK = {"RETRY_DELAY_SECONDS": "2", "LOST_ANSWER_SECONDS": "3"}
"""The pauses of 2 and 4 s before a third try outlast the queue's restarts."""


@dataclass
class Box(Bench):
    """A running stack, and a folder to run the client in."""

    home: Path = Path()

    def record(self, sessions: Iterable[Session]) -> None:
        """Upload a recording for each session."""
        audio = wav(2)
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda session: self.put(session.audio_key, audio), sessions))

    def start(
        self, log: Path, *argv: str, module: Sequence[str] = ("edge_client",)
    ) -> subprocess.Popen[bytes]:
        """Start the client, or one that SIGKILL ends."""
        with log.open("wb") as output:
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
        ended = self.start(log, *argv, module=module).wait(280)
        assert code is None or ended == code, log.read_text()[-2000:]
        return ended

    def missing(self, sessions: Sequence[Session]) -> list[str]:
        """Return the sessions that have no transcript or no claim."""
        keys = set(self.keys())
        return [s.prefix for s in sessions if not {s.result_key, s.claim_key} <= keys]

    def stored(self, sessions: Sequence[Session]) -> list[Claim]:
        """Return each session's claim; its transcript answers that claim's request."""

        def read(session: Session) -> Claim:
            claim = Claim.model_validate_json(self.read(session.claim_key))
            assert parse(self.read(session.result_key)).request_id == claim.request_id
            return claim

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
        submitted, claims = self.submissions(), self.stored(sessions)
        earlier = {attempt.ended for claim in claims for attempt in claim.earlier}
        assert earlier <= ({cause_name(Ending.UNANSWERED)} if may_be_lost else set())
        named = [claim.job_id for claim in claims if claim.job_id is not None]
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
        box = Box(stack, home=tmp_path)
        yield box
        box.s3.close()

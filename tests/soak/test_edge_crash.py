"""The client is killed between every two of its steps; the same command again then finishes.

On the development stack. What counts: one transcript, and the queue got as many submissions as
without a crash, so nothing was paid for twice.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devstack import Stack
from devstack.events import EventKind
from devstack.stack import write_env_file
from edge_client.jobs.transcript import parse
from tests.unit.edge_client.samples import wav

pytestmark = pytest.mark.timeout(600)
ROOT = Path(__file__).parent.parent.parent
SHORT = {"RETRY_DELAY_SECONDS": "0.2", "LOST_ANSWER_SECONDS": "2"}


@dataclass(frozen=True)
class Drill:
    """A stack, and the client on it."""

    stack: Stack
    home: Path
    s3: Any

    def record(self, name: str) -> str:
        """Upload a recording; return its session."""
        prefix = f"users/u1/audio/sessions/{name}"
        self.s3.put_object(Bucket=self.bucket, Key=f"{prefix}/audio.wav", Body=wav(4))
        return prefix

    @property
    def bucket(self) -> str:
        """The recordings' bucket."""
        return self.stack.env["COGNITO_S3_BUCKET"]

    def client(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, or to its death."""
        return subprocess.run(
            [sys.executable, "-m", *command],
            cwd=self.home,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(self.home), **SHORT},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def submissions(self) -> int:
        """Count what the queue got so far."""
        return len(self.stack.queue_events(EventKind.SUBMITTED))


@pytest.fixture(scope="module")
def drill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    home = tmp_path_factory.mktemp("crash")
    command = (sys.executable, "-m", "tests.fakes.worker_process", "sdk")
    with Stack(logs=home / "logs", worker_command=command) as stack:
        write_env_file(home / ".env", stack.env)
        s3 = stack.s3.client()
        yield Drill(stack, home, s3)
        s3.close()


@pytest.mark.parametrize(
    ("worker", "submissions", "first_steps"),
    [("slow-3", 1, 0), ("flaky", 2, 4)],  # before the first POST, the two are one
)
def test_killed_after_any_step_the_same_command_ends_in_one_transcript(
    drill: Drill, worker: str, submissions: int, first_steps: int
) -> None:
    for steps in range(first_steps, 100):
        session = drill.record(f"{worker}-{steps}")
        before = drill.submissions()
        command = ("submit", session, "--hotwords", worker, "--wait", "--json")
        first = drill.client("tests.unit.edge_client.crashing_client", str(steps), *command)
        if first.returncode == 0:
            break
        assert first.returncode == -signal.SIGKILL, first.stdout + first.stderr
        again = drill.client("edge_client", *command)
        where = f"killed after step {steps}: {again.stdout}{again.stderr}"
        assert again.returncode == 0, where
        assert json.loads(again.stdout)["state"] in ("done", "already_done"), where
        stored = drill.s3.get_object(Bucket=drill.bucket, Key=f"{session}/transcription.json")
        assert len(parse(stored["Body"].read()).lines) == 2
        assert drill.submissions() - before == submissions, where
    assert steps >= 8 * submissions  # there were steps to be killed between

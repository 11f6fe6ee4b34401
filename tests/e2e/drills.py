"""What drills work with: batches of the client in this process, on a stack whose worker is quick.

A worker without models does as a session's name says (`tests.fakes.worker_process`).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from devstack import Stack
from edge_client.batch import engine, limits
from edge_client.batch.engine import Engine
from edge_client.batch.limits import Shutdown
from edge_client.batch.plan import plan
from edge_client.batch.types import Filter, RunConfig
from edge_client.clock import Clock
from edge_client.errors import EndpointFails
from edge_client.jobs.claim import Claim, Wanted
from edge_client.jobs.poll import PollInterval
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import load
from tests.e2e.conftest import Bench
from tests.unit.edge_client.samples import Recorder

WORKER = (sys.executable, "-m", "tests.fakes.worker_process")
QUICK = {"RETRY_DELAY_SECONDS": "0", "LOST_ANSWER_SECONDS": "3"}


@dataclass
class Drill(Bench):
    """One user's sessions on the stack.

    Attributes:
        model: What the worker needs to have.
        shown: What the last batch told.
        before: How many jobs the queue took before this drill.
    """

    model: Path = Path()
    user: str = "u1"
    clock: Clock = field(default_factory=Clock)
    shown: Recorder = field(default_factory=Recorder)
    before: int = 0

    def record(self, count: int, what: str = "", audio: bytes = b"sound") -> list[Session]:
        """Upload so many recordings; what becomes of them is in their names."""
        sessions = [Session(self.user, f"s{n:03}{what}") for n in range(count)]
        for session in sessions:
            self.put(session.audio_key, audio)
        return sessions

    def batch(
        self, interval: tuple[float, float] = (0.1, 0.3), edge: Edge | None = None, **config: Any
    ) -> str:
        """Run a batch; return why it stopped, empty if it did not."""
        edge, self.shown = edge or Edge(load(None), self.clock), Recorder()
        chosen = Filter(user=self.user)
        run = RunConfig(Wanted(), lambda _: PollInterval(*interval), chosen=chosen, **config)
        try:
            Engine(edge, run, self.shown, Shutdown()).run(lambda: plan(edge, chosen, closes=True))
        except EndpointFails as exc:
            return str(exc)
        return ""

    def paid(self) -> int:
        """Return how many jobs the queue took."""
        return len(self.submissions()) - self.before

    def ends(self) -> Counter[str]:
        """Count how the last batch's sessions ended."""
        return Counter(self.shown.results().values())

    def claims(self) -> list[Claim]:
        """Return what the user's sessions have as claims."""
        keys = [key for key in self.keys(f"users/{self.user}/") if key.endswith("job.json")]
        return [Claim.model_validate_json(self.read(key)) for key in keys]


@contextmanager
def drilled(folder: Path, **stack: Any) -> Iterator[Drill]:
    """Start a stack, and have this process's client use it."""
    model = folder / "model"
    model.touch()
    worker_env = {"WHISPER_MODEL": str(model), **stack.pop("worker_env", {})}
    with (
        pytest.MonkeyPatch.context() as patch,
        Stack(
            logs=folder / "logs", worker_command=WORKER, worker_env=worker_env, grace_s=1, **stack
        ) as running,
    ):
        for name, value in {**running.env, **QUICK}.items():
            patch.setenv(name, value)
        patch.setattr(limits, "PROBE_AFTER_S", 0.3)
        patch.setattr(engine, "TURN_S", 0.1)
        drill = Drill(running, model=model)
        yield drill
        drill.s3.close()

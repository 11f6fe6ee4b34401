"""Start S3, queue and workers together as one development stack, and end them together.

`Stack.env` tells an edge client where they are; `write_env_file` writes it as `KEY=value` lines.
Raises `StartFailed` where a part does not start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from devstack.api import QueueServer
from devstack.events import Event, EventKind, write_json_lines
from devstack.process import ChildProcess, Guard
from devstack.queue import QueueConfig
from devstack.s3 import REGION, S3Server
from devstack.workers import Worker, worker_environment


def write_env_file(path: Path, env: Mapping[str, str]) -> None:
    """Write `env` so that a reader sees all of it or nothing; only the owner may read it."""
    text = "".join(f"{key}={value}\n" for key, value in env.items())
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as folder:
        whole = Path(folder, path.name)
        whole.touch(mode=0o600)
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)


ROOT = Path(__file__).resolve().parent.parent
BUCKET = "recordings"
ENDPOINT_ID = "devstack"


class Stack:
    """S3, RunPod's queue and its workers on loopback, as a context manager.

    Args:
        workers: How many workers.
        logs: Folder for `s3.log`, `queue.jsonl`, `worker-N.log`; emptied of these first.
        models: What the workers get as MODELS_DIR.
        worker_command: What a worker runs, from the repository root.
        worker_env: More variables for the workers.
        config: Limits and intervals of the queue.
        grace_s: How long workers may finish their jobs at the end.
    """

    def __init__(
        self,
        workers: int = 1,
        logs: Path = ROOT / "logs",
        models: Path = ROOT / "models",
        worker_command: Sequence[str] = (sys.executable, "handler.py"),
        worker_env: Mapping[str, str] | None = None,
        config: QueueConfig | None = None,
        grace_s: float = 30.0,
    ) -> None:
        self.logs = logs.absolute()
        self._worker_count, self._worker_command = workers, worker_command
        self._worker_env = {"MODELS_DIR": str(models.absolute()), **(worker_env or {})}
        self._config, self._grace_s = config, grace_s
        self._api_key = f"rpa_{secrets.token_hex(20)}"
        self._undo = ExitStack()
        self.guard: Guard
        self.s3: S3Server
        self.queue: QueueServer
        self.workers: list[Worker] = []
        self.worker_home: Path

    @property
    def env(self) -> dict[str, str]:
        """The variables that an edge client reads."""
        return {
            "AWS_ENDPOINT_URL_S3": self.s3.url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_access_key,
            "AWS_REGION": REGION,
            "COGNITO_S3_BUCKET": self.s3.bucket,
            "RUNPOD_ENDPOINT_BASE_URL": self.queue.base_url,
            "RUNPOD_ENDPOINT_ID": self.queue.endpoint_id,
            "RUNPOD_API_KEY": self._api_key,
        }

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            self._start(undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def edge_client(
        self, *arguments: str, cwd: Path = ROOT, columns: int | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run the edge client's command on this stack, without variables of a real cloud."""
        cloud = ("AWS_", "RUNPOD_", "COGNITO_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(cloud)}
        command = [sys.executable, "-m", "edge_client", *arguments]
        env = {**kept, **self.env, "PYTHONPATH": str(ROOT)}
        env |= {"COLUMNS": str(columns)} if columns else {}
        return subprocess.run(command, env=env, cwd=cwd, text=True, check=False, **options)  # noqa: S603  our own

    def queue_events(self, *kinds: EventKind) -> list[Event]:
        """Return the queue's events so far, all or those of these kinds."""
        return [event for event in self.queue.events.so_far() if not kinds or event.kind in kinds]

    def worker_pids(self) -> list[int]:
        """Return the process ids of the workers that run now."""
        return [worker.pid for worker in self.workers if worker.pid is not None]

    def _start(self, undo: ExitStack) -> None:
        self.guard = undo.enter_context(Guard())
        state = Path(tempfile.mkdtemp(prefix="devstack-"))
        undo.callback(shutil.rmtree, state, ignore_errors=True)
        self.guard.watch_path(state)
        self._prepare_logs()
        s3 = S3Server(BUCKET, state, self.logs / "s3.log", self.guard)
        self.s3 = undo.enter_context(s3)
        self.queue = QueueServer(ENDPOINT_ID, self._api_key, self._config)
        self.queue.events.listen(write_json_lines(self.logs / "queue.jsonl"))
        undo.enter_context(self.queue)
        self.worker_home = state / "worker"
        self.worker_home.mkdir()
        undo.callback(self._stop_workers)
        for number in range(1, self._worker_count + 1):
            name = f"worker-{number}"
            worker = Worker(name, self._spawn, self.logs / f"{name}.log", self._grace_s)
            self.workers.append(worker)
            self.queue.events.listen(worker.on_event)
            worker.start()

    def _stop_workers(self) -> None:
        """Let all workers finish their jobs at the same time, then end them."""
        deadline_s = time.monotonic() + self._grace_s
        for worker in self.workers:
            worker.ask_to_stop()
        self.queue.release_polls()
        for worker in self.workers:
            worker.stop(deadline_s)

    def _prepare_logs(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        for pattern in ("s3.log", "queue.jsonl", "worker-*.log"):
            for old in self.logs.glob(pattern):
                old.unlink()

    def _spawn(self, worker_id: str, log: Path) -> ChildProcess:
        env = worker_environment(self.queue.endpoint_url, worker_id, self.worker_home)
        env |= self._worker_env
        return ChildProcess(self._worker_command, env, ROOT, log, self.guard)

"""Start S3, queue and workers together as one development stack, and end them together.

Workers are real (`python handler.py` under the SDK's loop); those that exit are started again.
`Stack.env` tells an edge client where all is; `write_env_file` writes it as `KEY=value` lines.
Raises `StartFailed` where a part does not start.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from devstack.api import QueueServer
from devstack.events import Event, EventKind, write_json_lines
from devstack.process import ChildProcess, Guard, clean_environment
from devstack.queue import QueueConfig
from devstack.s3 import REGION, S3Server

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "recordings"
ENDPOINT_ID = "devstack"
PING_INTERVAL_MS = 1000
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
HEALTHY_S = 10.0


def write_env_file(path: Path, env: Mapping[str, str]) -> None:
    """Write `env` so that a reader sees all of it or nothing; only the owner may read it."""
    text = "".join(f"{key}={value}\n" for key, value in env.items())
    with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as folder:
        whole = Path(folder, path.name)
        whole.touch(mode=0o600)
        whole.write_text(text, encoding="utf-8")
        whole.replace(path)


def worker_environment(endpoint_url: str, worker_id: str, home: Path) -> dict[str, str]:
    """Return what RunPod sets for a worker, pointed at the loopback queue.

    The SDK fills in `$ID` and `$RUNPOD_POD_ID` itself. Its system checks are skipped: they
    open a connection to a public address.
    """
    query = "?gpu=none"
    return {
        **clean_environment(home),
        "RUNPOD_WEBHOOK_GET_JOB": f"{endpoint_url}/job-take/$ID{query}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{endpoint_url}/job-done/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_PING": f"{endpoint_url}/ping/$RUNPOD_POD_ID{query}",
        "RUNPOD_AI_API_KEY": "worker",
        "RUNPOD_POD_ID": worker_id,
        "RUNPOD_PING_INTERVAL": str(PING_INTERVAL_MS),
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_LOG_LEVEL": "INFO",
        "ALLOW_LOOPBACK_URLS": "1",
        "PYTHONUNBUFFERED": "1",
    }


class Worker:
    """One worker that is restarted whenever it exits, each time under a new id.

    Args:
        name: `worker-N`; the ids are `worker-N-1`, `worker-N-2` and so on.
        spawn: Starts the process for an id, which prints to the log.
        log: Also gets a line for each start after the first.
        grace_s: How long a worker may finish its job after SIGTERM.
    """

    def __init__(
        self, name: str, spawn: Callable[[str, Path], ChildProcess], log: Path, grace_s: float
    ) -> None:
        self.name = name
        self.starts = 0
        self._spawn, self._log, self._grace_s = spawn, log, grace_s
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: ChildProcess | None = None
        self._thread = threading.Thread(target=self._keep_running, name=name, daemon=True)

    @property
    def worker_id(self) -> str:
        """The id of the process that runs now."""
        return f"{self.name}-{self.starts}"

    @property
    def pid(self) -> int | None:
        """The process that runs now, if one does."""
        process = self._process
        return None if process is None or process.has_exited else process.pid

    def start(self) -> None:
        """Start the first process, and the thread that restarts it."""
        self._start_process()
        self._thread.start()

    def on_event(self, event: Event) -> None:
        """Restart if it asked for it, in a thread: the queue's events are not held up."""
        process = self._process
        if event.kind is EventKind.WORKER_REFRESH and event.worker_id == self.worker_id and process:
            threading.Thread(target=process.stop, args=(self._grace_s,), daemon=True).start()

    def ask_to_stop(self) -> None:
        """Send the process SIGTERM, and start none again."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()

    def stop(self, deadline_s: float) -> None:
        """Have the process gone by `deadline_s` of the monotonic clock."""
        self.ask_to_stop()
        if self._process is not None:
            self._process.stop(max(0.0, deadline_s - time.monotonic()))
        if self._thread.ident is not None:
            self._thread.join()

    def _start_process(self) -> None:
        with self._lock:
            if not self._stopping.is_set():
                self.starts += 1
                self._process = self._spawn(self.worker_id, self._log)

    def _keep_running(self) -> None:
        delay_s = FIRST_DELAY_S
        while self._process is not None:
            started_s = time.monotonic()
            code = self._process.wait()
            lived_s = time.monotonic() - started_s
            if self._stopping.is_set():
                return
            delay_s = FIRST_DELAY_S if lived_s >= HEALTHY_S else delay_s
            with self._log.open("a", encoding="utf-8") as lines:
                text = f"{self.worker_id} exited with {code} after {lived_s:.1f} s"
                lines.write(f"[devstack] {text}\n")
            self._stopping.wait(delay_s)
            delay_s = min(delay_s * 2, MAX_DELAY_S)
            self._start_process()


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
        self.logs.mkdir(parents=True, exist_ok=True)
        for pattern in ("s3.log", "queue.jsonl", "worker-*.log"):
            for old in self.logs.glob(pattern):
                old.unlink()
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

    def _spawn(self, worker_id: str, log: Path) -> ChildProcess:
        env = worker_environment(self.queue.endpoint_url, worker_id, self.worker_home)
        env |= self._worker_env
        return ChildProcess(self._worker_command, env, ROOT, log, self.guard)

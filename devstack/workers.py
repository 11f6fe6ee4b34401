"""Run real workers (`python handler.py` under the SDK's loop), and restart those that exit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from devstack.events import Event, EventKind
from devstack.process import ChildProcess, clean_environment

PING_INTERVAL_MS = 1000
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 30.0
HEALTHY_S = 10.0


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

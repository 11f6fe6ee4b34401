"""Run a child process in a session of its own, so that its descendants end with it."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from devstack.guard import Guard, kill_group

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


def clean_environment(home: Path) -> dict[str, str]:
    """Return the few variables a child needs: no credentials, and a home and TMPDIR of its own."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    tmp = home / "tmp"
    tmp.mkdir(exist_ok=True)
    return {**passed, "HOME": str(home), "TMPDIR": str(tmp)}


class ChildProcess:
    """A started command; its output goes to the end of `log`."""

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path, guard: Guard
    ) -> None:
        self._guard = guard
        self._lock = threading.Lock()
        self._is_over = False
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 -- the stack's own command lines
                command,
                env=env,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        guard.watch_group(self.pid)

    @property
    def pid(self) -> int:
        """The process, which leads its group."""
        return self._process.pid

    @property
    def has_exited(self) -> bool:
        """Whether the process itself has exited."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the process to exit, kill the rest of its group, return its exit code."""
        code = self._process.wait()
        with self._lock:
            if not self._is_over:
                self._is_over = True
                kill_group(self.pid)
                self._guard.release_group(self.pid)
        return code

    def terminate(self) -> None:
        """Send the process SIGTERM."""
        self._process.terminate()

    def stop(self, grace_s: float) -> None:
        """Send SIGTERM, and kill the whole group after `grace_s` at the latest."""
        self.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            kill_group(self.pid)
        self.wait()

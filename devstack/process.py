"""Child processes that end with all their descendants, also when the stack itself is killed.

Each child leads a session of its own. The guard, which is this file run as a program, reads a pipe
from the stack; when the stack dies, even by SIGKILL, the pipe ends, and the guard kills the process
groups and removes the paths that it was told of. Unlike PR_SET_PDEATHSIG this reaches
grandchildren: the SDK's heartbeat process outlives a killed parent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

PASSED_ON = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip


class Guard:
    """The guarding process, as the stack sees it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(  # noqa: S603 -- this very file
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()

    def watch_group(self, group_id: int) -> None:
        """Kill the process group at the end."""
        self._tell(f"+group {group_id}")

    def release_group(self, group_id: int) -> None:
        """Leave the group alone: it is gone, and its number may be used again."""
        self._tell(f"-group {group_id}")

    def watch_path(self, path: Path) -> None:
        """Remove the file or folder at the end."""
        self._tell(f"+path {path.absolute()}")

    def _tell(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):
            if self._process.stdin is not None:
                self._process.stdin.write(line + "\n")
                self._process.stdin.flush()


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


def main() -> None:
    """Guard: read what to watch until the pipe ends, then end and remove it."""
    watched: dict[str, None] = {}
    for line in sys.stdin:
        sign, item = line[0], line[1:].rstrip("\n")
        if sign == "+":
            watched[item] = None
        else:
            watched.pop(item, None)
    for item in sorted(watched):  # groups before paths
        kind, _, name = item.partition(" ")
        if kind == "group":
            kill_group(int(name))
        else:
            remove(Path(name))


def kill_group(group_id: int) -> None:
    """Kill every process of the group, if there are any."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group_id, signal.SIGKILL)


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()

"""Clean up after a stack that is killed.

The guard is a process that reads a pipe from the stack. When the stack dies, even by SIGKILL, the
pipe ends, and the guard kills the process groups and removes the paths that it was told of. Unlike
PR_SET_PDEATHSIG this reaches grandchildren: the SDK's heartbeat process outlives a killed parent.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self


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


def main() -> None:
    """Read what to watch until the pipe ends, then end and remove it."""
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

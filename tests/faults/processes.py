"""Looks at processes: which run, and which should not any more."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path


def is_running(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return re.sub(r".*\) ", "", stat)[0] not in "ZX"


def group(leader: int) -> list[int]:
    """Return the running processes of a group."""
    pids = [int(process.name) for process in Path("/proc").glob("[0-9]*")]
    return [pid for pid in pids if is_running(pid) and _group_of(pid) == leader]


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def processes_left(mark: str, patience_s: float = 10.0) -> list[int]:
    """Return the processes whose environment names ``mark``, once they had time to end."""
    deadline = time.monotonic() + patience_s
    while (found := _with_environment(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _with_environment(mark: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment:
            found.append(int(process.name))
    return found

"""What a test asks of processes: which run, and which should not any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0, what: str = "it") -> Any:
    """Return the first true value of `condition`; fail when it takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def group_members(group_id: int) -> list[int]:
    """Return the running processes of a process group."""

    def is_member(pid: int) -> bool:
        with suppress(ProcessLookupError):
            return os.getpgid(pid) == group_id
        return False

    return [pid for pid in psutil.pids() if is_member(pid) and is_running(pid)]


def processes_left(mark: str, patience_s: float = 10.0) -> list[int]:
    """Return the processes whose environment names ``mark``, once they had time to end."""

    def is_marked(process: psutil.Process) -> bool:
        with suppress(psutil.Error):
            return mark in str(process.environ().values())
        return False

    deadline_s = time.monotonic() + patience_s
    while found := [process.pid for process in psutil.process_iter() if is_marked(process)]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.2)
    return found

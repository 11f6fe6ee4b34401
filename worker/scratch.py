"""The temporary directory of a job: gone with it, also when the process was killed.

A killed process leaves its directory behind; the next one that starts in the same container
removes it. The name holds the process's id: in a container that is 1 every time, so what bears
this process's own id was left by an earlier one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_PREFIX = "bucketscribe-"


@contextmanager
def job_directory() -> Iterator[Path]:
    """Give an empty directory, and remove it with all that is in it."""
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def clear_what_was_left() -> int:
    """Remove the directories of dead processes; call it before the first job.

    Returns:
        How many there were.
    """
    left = [path for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*") if _is_left(path)]
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
    return len(left)


def _is_left(path: Path) -> bool:
    pid = path.name.removeprefix(_PREFIX).split("-")[0]
    return pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid)))

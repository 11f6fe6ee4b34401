"""Tell a container engine whether the worker can take a job: exit code 0, or a line and 1.

A worker listens on no port, so this checks that process 1 is the handler and runs (not stopped,
not a zombie), and that the folder for recordings can be written to. It does not check that models
are loaded: a job that comes before waits for them. It imports the standard library alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

PROC = Path("/proc/1")
NOT_RUNNING = "TtZX"


def find_fault(process: Path = PROC, scratch: str | None = None) -> str | None:
    """Return what is wrong, or None.

    Args:
        process: The worker's folder in procfs.
        scratch: Where a job puts its recording; by default where `tempfile` does.
    """
    try:
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except OSError as exc:
        return f"process 1 cannot be seen: {exc}"
    if b"handler.py" not in arguments:
        return "process 1 is not handler.py"
    if state in NOT_RUNNING:
        return f"process 1 is in state {state}"
    try:
        with tempfile.TemporaryFile(dir=scratch) as file:
            file.write(b"\0" * 4096)
    except OSError as exc:
        return f"the temporary folder cannot be written to: {exc}"
    return None


if __name__ == "__main__":
    fault = find_fault()
    if fault is not None:
        sys.exit(fault)

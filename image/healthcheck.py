"""What a container engine asks: exit code 0 while the worker can take a job.

It runs in the image without anything but the standard library. A worker has no port to ask: it
polls its queue, and RunPod hears of its life by the pings that it sends. So this looks at what a
container engine cannot see by itself: whether process 1 is the handler and runs (not stopped,
not a zombie), and whether the folder for recordings can be written to. It does not say that the
models are loaded: a job that comes meanwhile waits for them.
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

"""How much memory a job took at most: of the process, and of the GPU.

The kernel keeps the highest resident size of a process (``VmHWM``) and forgets it when ``5`` is
written to ``/proc/self/clear_refs`` (proc_pid_clear_refs(5)). Where it may not be written, a peak
is that of the process so far.

torch knows the peak of what torch took. CTranslate2 takes memory beside it and keeps it for later,
so what the whole GPU holds at a job's end is about the peak of both.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from worker.memory import cuda_of_torch

_MB = 1_000_000
_PROC = Path("/proc/self")


def begin() -> None:
    """Forget the peaks so far."""
    with contextlib.suppress(OSError):
        (_PROC / "clear_refs").write_text("5")
    cuda = cuda_of_torch()
    if cuda is not None and cuda.is_initialized():
        cuda.reset_peak_memory_stats()


def measured_mb() -> dict[str, int]:
    """Return the peaks since then, in MB (10^6 bytes); CUDA's where there is a GPU."""
    with contextlib.suppress(OSError, RuntimeError):  # a GPU that failed tells nothing
        return _of_process() | _of_gpu()
    return {}


def _of_process() -> dict[str, int]:
    found = re.search(r"^VmHWM:\s+(\d+) kB", (_PROC / "status").read_text(), re.MULTILINE)
    return {"rss_peak_mb": round(int(found[1]) * 1024 / _MB)} if found else {}


def _of_gpu() -> dict[str, int]:
    cuda = cuda_of_torch()
    if cuda is None or not cuda.is_initialized():
        return {}
    free, total = cuda.mem_get_info()
    torch_peak = round(cuda.max_memory_reserved() / _MB)
    return {"cuda_torch_peak_mb": torch_peak, "cuda_used_mb": round((total - free) / _MB)}

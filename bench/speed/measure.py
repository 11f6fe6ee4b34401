"""What is measured, and how: seconds, memory, the machine, medians of many runs.

Clocks are read after `synchronize`, since on CUDA a kernel that was started is not a kernel that
has run.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import psutil

LIBRARIES = (
    "whisperx", "pyannote.audio", "faster-whisper", "ctranslate2", "torch", "transformers", "numpy",
)  # fmt: skip
SAMPLE_S = 0.02


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextlib.contextmanager
def timed(stage: str, into: dict[str, float]) -> Iterator[None]:
    """Add the seconds of a block to a stage's."""
    synchronize()
    started = time.perf_counter()
    yield
    synchronize()
    into[stage] = into.get(stage, 0.0) + time.perf_counter() - started


@contextlib.contextmanager
def memory_peak() -> Iterator[dict[str, float]]:
    """Watch memory while the block runs, by samples.

    Yields:
        Bytes, filled in after the block: ``before`` (resident before it, children included),
        ``peak`` (the most that was resident during it), ``added`` (their difference), ``cuda``
        (the most that torch held on the GPU, above what it held before; 0 without one).
    """
    import torch

    done, before = threading.Event(), _resident()
    seen, found = [before], dict[str, float]()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            seen.append(_resident())

    cuda_before = torch.cuda.memory_allocated()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield found
    finally:
        done.set()
        sampler.join()
    cuda = torch.cuda.max_memory_allocated() - cuda_before
    found |= {"before": before, "peak": max(seen), "added": max(seen) - before, "cuda": cuda}


def _resident() -> int:
    process, total = psutil.Process(), 0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += one.memory_info().rss
    return total


def describe() -> dict[str, Any]:
    """Return the machine, without its name, and the versions."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": names[0] if names else platform.machine(),
        "ram_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "versions": {library: version(library) for library in LIBRARIES},
    }


Figure = dict[str, float]


def figure(values: Sequence[float]) -> Figure:
    """Sum up what was measured at least once: ``median``, ``low``, ``high`` and ``runs``."""
    ends = {"median": median(values), "low": min(values), "high": max(values)}
    return {name: round(value, 4) for name, value in ends.items()} | {"runs": len(values)}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Divide pair by pair, as they ran side by side: what slows both cancels out."""
    return figure([our / their for our, their in zip(ours, theirs, strict=True)])


def by_stage(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Turn one mapping a run into one list a stage; a stage that a run lacks took no time."""
    stages = dict.fromkeys(stage for run in runs for stage in run)
    return {stage: [run.get(stage, 0.0) for run in runs] for stage in stages}

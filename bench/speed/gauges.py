"""Clock and memory, as they have to be read around models.

On CUDA a kernel that was started is not a kernel that has run: the clock is read after
`synchronize`. Memory is the peak of this process and of its children, above what they held.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

SAMPLE_S = 0.02
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


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


@dataclass(frozen=True)
class Peak:
    """Memory of a block, in bytes.

    Attributes:
        before: Resident before it, children included.
        peak: The most that was resident during it.
        cuda: The most that torch held on the GPU, above what it held before; 0 without one.
    """

    before: int
    peak: int
    cuda: int

    @property
    def added(self) -> int:
        """What the block needed above what was there."""
        return self.peak - self.before


class MemoryPeak:
    """Watches resident memory while its block runs.

    The kernel's own peak of this process (``VmHWM``, reset through ``clear_refs``) is exact;
    a thread samples the sum with its children, should there be any.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._most = 0
        self._cuda_before = 0

    def __enter__(self) -> Self:
        self._before = self._resident()
        self._most = self._before
        self._cuda_before = _cuda("memory_allocated")
        if _cuda_is_there():
            import torch

            torch.cuda.reset_peak_memory_stats()
        _CLEAR.write_text("5")
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._done.set()
        self._sampler.join()

    def read(self) -> Peak:
        """Return the peak; after the block."""
        cuda = _cuda("max_memory_allocated") - self._cuda_before
        return Peak(self._before, max(self._most, _own_peak()), cuda)

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._most = max(self._most, self._resident())

    def _resident(self) -> int:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total


def _own_peak() -> int:
    """Return this process's peak since the reset, in bytes."""
    lines = _STATUS.read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def _cuda_is_there() -> bool:
    import torch

    return torch.cuda.is_available()


def _cuda(figure: str) -> int:
    import torch

    return int(getattr(torch.cuda, figure)()) if torch.cuda.is_available() else 0

"""Memory of the worker's process: when it runs out, what is returned, how much a job took.

Takes functions that run a stage and halves their batch when they run out of memory; tells memory
errors from CUDA errors after which the process is of no use. Raises `WorkerError`:
``OUT_OF_MEMORY``. Imports no torch, so that a first job's download does not wait for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import psutil

from bucketscribe_contract import FailureCode, Stage, WarningCode
from worker.errors import WorkerError

logger = logging.getLogger(__name__)
T = TypeVar("T")
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # malloc.h
_ARENAS = 2  # five minutes of audio on 2 cores grow the process by 660 MB; with all arenas, 1,080
_KEPT_BYTES = 1 << 30
# Of oneDNN and of ideep, which is torch's way to it: 1,024 each if nobody says otherwise. Slices of
# all lengths fill them with small pieces, between which large ones find no room: the heap grew.
_CACHES, _CACHED = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"), "128"
_TRIM_INTERVAL_S = 2.0  # costs 1 % of a job's time; every half second 4 %
# What torch 2.8 and CTranslate2 4.8.5 say, in lower case. `tests/unit/worker/test_memory.py` has
# whole messages, each with the source file that it comes from.
_OUT = (
    "out of memory",  # cudaGetErrorString, and torch's own allocator
    "cudaerrormemoryallocation",  # thrust, in CTranslate2
    "alloc_failed",  # cuBLAS, cuFFT, cuSOLVER, cuDNN 8
    "allocation_failed",  # cuDNN 9
    "unable to find an engine",  # torch's cuDNN convolutions: no algorithm has room to work in
    "unable to find a valid cudnn algorithm",
    "cudacachingallocator.cpp",  # torch fails an assertion where NVML cannot say who has the memory
    "can't allocate memory",  # the host's
    "bad_alloc",
    "failed to allocate",
)
# Whatever else CUDA says: most of it fails every later call of the process (illegal address,
# assert, launch failure, ECC). A worker replaced in vain costs less than one that fails all jobs.
_POISONED = (
    *("cuda error", "cuda failed", "cuda driver error", "cudaerror"),
    *("cublas", "cudnn", "cufft", "cusolver"),
)
_NOISE_BYTES = 256 << 20
_MB = 1_000_000
_PROC = Path("/proc/self")


def tune_malloc() -> None:
    """Have glibc keep what is freed, in few arenas, until `trim_heap`; call it before torch runs.

    Tensors of some megabytes are mapped, zeroed and unmapped by the system each time otherwise,
    and each arena keeps its own peak. Torch is to keep few ways to convolve.
    """
    for name in _CACHES:
        os.environ.setdefault(name, _CACHED)
    _call_glibc("mallopt", _M_ARENA_MAX, _ARENAS)
    _call_glibc("mallopt", _M_MMAP_MAX, 0)
    _call_glibc("mallopt", _M_TRIM_THRESHOLD, _KEPT_BYTES)


def trim_heap() -> None:
    """Return the heap's free memory to the system."""
    _call_glibc("malloc_trim", 0)


def _call_glibc(name: str, *arguments: int) -> None:
    """Call a function of glibc, if that is the system's library."""
    function = getattr(ctypes.CDLL(None), name, None)
    if function is not None:
        function(*arguments)


class HeapTrimmer:
    """Trims the heap at intervals, however often it is called, from any thread."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def __call__(self) -> None:
        """Trim, unless that was done within the last two seconds."""
        now = time.monotonic()
        if now - self._last > _TRIM_INTERVAL_S:
            self._last = now
            trim_heap()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or CTranslate2 says that memory ran out, on GPU or host."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in text for word in _OUT)
    )


def is_cuda_error(error: BaseException) -> bool:
    """Whether an error is CUDA's, lack of memory included."""
    return is_out_of_memory(error) or any(word in str(error).lower() for word in _POISONED)


def is_poisoned(error: BaseException) -> bool:
    """Whether every later CUDA call of this process will fail too."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return any(is_cuda_error(link) and not is_out_of_memory(link) for link in chain)


def with_smaller_batches(
    stage: Stage, batch_size: int, run: Callable[[int], T]
) -> tuple[T, tuple[str, ...]]:
    """Run a stage, halving its batch each time memory runs out.

    Args:
        stage: Named in warnings and errors.
        batch_size: To begin with.
        run: The stage, given its batch size.

    Returns:
        What the stage gave, and the warnings: ``BATCH_REDUCED`` with the batch that was used.

    Raises:
        WorkerError: ``OUT_OF_MEMORY`` when a batch of 1 is too large.
    """
    batch = batch_size
    while True:
        try:
            result = run(batch)
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            failed = exc.with_traceback(None)  # its frames hold the tensors to be freed
        else:
            reduced = (f"{WarningCode.BATCH_REDUCED}: {stage} {batch}",)
            return result, reduced if batch < batch_size else ()
        _empty_caches()
        if batch == 1:
            message = "memory ran out with a batch of 1; use a larger GPU or send parts with clip"
            raise WorkerError(FailureCode.OUT_OF_MEMORY, message, stage) from failed
        batch //= 2
        logger.warning("%s: memory ran out, going on with a batch of %d", stage, batch)


def _empty_caches() -> None:
    gc.collect()
    if (cuda := cuda_of_torch()) is not None:
        cuda.empty_cache()


class MemoryGrowth:
    """Compares what a job leaves in memory with what the largest job so far left.

    Args:
        share: Growth that is too much; 0.5 is half as much again.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._size: tuple[float, ...] = ()
        self._before = 0, 0

    def is_too_much(self, *size: float) -> bool:
        """Measure after a job: whether host or GPU memory grew beyond the share.

        Args:
            size: What may well take more: seconds of audio, models loaded. Where one of them is
                larger than ever, the job is what later ones are compared with.
        """
        cuda = cuda_of_torch()
        _empty_caches()
        allocated = 0 if cuda is None else int(cuda.memory_allocated())
        now = psutil.Process().memory_info().rss, allocated
        largest = tuple(map(max, size, self._size)) if self._size else size
        if largest != self._size:
            self._size, self._before = largest, now
            return False
        return any(
            after > before * (1 + self._share) and after - before > _NOISE_BYTES
            for before, after in zip(self._before, now, strict=True)
        )


def cuda_of_torch() -> Any:
    """Return torch's CUDA module, or None without a GPU, or before torch has been imported."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_available() else None


def reset_peaks() -> None:
    """Forget the peaks so far (``VmHWM``, proc_pid_clear_refs(5)), where that is permitted."""
    with contextlib.suppress(OSError):
        (_PROC / "clear_refs").write_text("5")
    cuda = cuda_of_torch()
    if cuda is not None and cuda.is_initialized():
        cuda.reset_peak_memory_stats()


def peaks_mb() -> dict[str, int]:
    """Return the peaks since then, in MB (10^6 bytes); on a GPU also what all of it uses now.

    CTranslate2 allocates beside torch and keeps what it has, so that is about the peak of both.
    """
    peaks: dict[str, int] = {}
    with contextlib.suppress(OSError, RuntimeError):  # a GPU that failed tells nothing
        found = re.search(r"^VmHWM:\s+(\d+) kB", (_PROC / "status").read_text(), re.MULTILINE)
        peaks |= {"rss_peak_mb": round(int(found[1]) * 1024 / _MB)} if found else {}
        cuda = cuda_of_torch()
        if cuda is not None and cuda.is_initialized():
            free, total = cuda.mem_get_info()
            peaks["cuda_torch_peak_mb"] = round(cuda.max_memory_reserved() / _MB)
            peaks["cuda_used_mb"] = round((total - free) / _MB)
    return peaks

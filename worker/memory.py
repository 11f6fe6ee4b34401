"""Memory that runs out, and memory that creeps.

A stage that meets an out-of-memory error is run again with half its batch, down to 1. A CUDA
error that poisons the process, and growth over jobs (whisperX #972), end in the worker asking
RunPod for a fresh one. Imports no torch: a job's download goes on while that is imported.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import psutil

from contract import FailureCode, Stage, WarningCode
from worker.errors import WorkerError

logger = logging.getLogger(__name__)
T = TypeVar("T")

_OUT = ("out of memory", "can't allocate memory", "bad_alloc", "failed to allocate")
_POISONED = ("cuda error", "cuda failed", "device-side assert", "cublas_status", "cudnn_status")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or CTranslate2 says that memory ran out, on GPU or host."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(word in text for word in _OUT)
    )


def is_poisoned(error: BaseException) -> bool:
    """Whether every later CUDA call of this process will fail too."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return any(
        not is_out_of_memory(link) and any(word in str(link).lower() for word in _POISONED)
        for link in chain
    )


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
        release()
        if batch == 1:
            message = "memory ran out with a batch of 1; use a larger GPU or send parts with clip"
            raise WorkerError(FailureCode.OUT_OF_MEMORY, message, stage) from failed
        batch //= 2
        logger.warning("%s: memory ran out, going on with a batch of %d", stage, batch)


def release() -> None:
    """Give freed memory back to the device."""
    gc.collect()
    if (cuda := cuda_of_torch()) is not None:
        cuda.empty_cache()


class Growth:
    """Watches memory over jobs.

    Args:
        share: Growth over the first job's that is too much; 0.5 is half as much again.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._first: tuple[int, int] | None = None

    def is_too_much(self) -> bool:
        """Measure after a job: whether host or GPU memory grew beyond the share."""
        now = psutil.Process().memory_info().rss, _reserved_bytes()
        if self._first is None:
            self._first = now
            return False
        return any(
            after > before * (1 + self._share) and after - before > _NOISE_BYTES
            for before, after in zip(self._first, now, strict=True)
        )


_NOISE_BYTES = 256 << 20


def _reserved_bytes() -> int:
    return int(cuda.memory_reserved()) if (cuda := cuda_of_torch()) is not None else 0


def cuda_of_torch() -> Any:
    """Return torch's CUDA module, or None without a GPU, or before torch has been imported."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    return cuda if cuda is not None and cuda.is_available() else None

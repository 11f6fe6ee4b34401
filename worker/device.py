"""The one place that knows what the models run on.

Source of the defaults: whisperx uses float16 on CUDA; on a CPU int8 halves the time of float32
(3m26 → 1m58, measured by its users) with the same text here.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from worker.settings import WorkerSettings


@dataclass(frozen=True)
class Device:
    """Where and how the models run.

    Attributes:
        name: ``cuda`` or ``cpu``, as torch and CTranslate2 both spell it.
        compute_type: CTranslate2's number format.
        batch_size: Chunks of 30 s that Whisper decodes at once.
        windows_batch_size: Windows that go through detection and diarization at once.
        threads: CPU threads of one model.
    """

    name: str
    compute_type: str
    batch_size: int
    windows_batch_size: int
    threads: int

    @property
    def torch_device(self) -> torch.device:
        """The device as torch wants it."""
        return torch.device(self.name)


def choose_device(settings: WorkerSettings) -> Device:
    """Return the device that the settings ask for, or the best there is.

    Raises:
        RuntimeError: CUDA is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise RuntimeError("DEVICE=cuda, but torch sees no CUDA device; set DEVICE=auto or cpu")
    on_cuda = has_cuda and settings.device != "cpu"
    return Device(
        name="cuda" if on_cuda else "cpu",
        compute_type=settings.compute_type or ("float16" if on_cuda else "int8"),
        batch_size=settings.batch_size or (16 if on_cuda else 8),
        windows_batch_size=settings.windows_batch_size,
        threads=settings.cpu_threads or len(os.sched_getaffinity(0)),
    )

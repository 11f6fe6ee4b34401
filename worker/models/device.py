"""The one place that knows what the models run on, and how much of it they take at once.

Source of the defaults: whisperx uses float16 on CUDA; on a CPU int8 halves the time of float32
(3m26 → 1m58, measured by its users) with the same text here.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from worker.models.folder import unavailable
from worker.settings import WorkerSettings

NO_CUDA = (
    "torch sees no CUDA device: choose a GPU type for the endpoint, with a driver for CUDA "
    f"{torch.version.cuda or '(this torch is built without)'}, or set DEVICE=cpu"
)
_GIB = 1 << 30
# A chunk of 30 s in Whisper large-v3, float16, 5 beams: 0.35 GiB of keys and values of the text
# (32 layers x 2 x 448 x 1280 x 2 bytes x 5) and 0.23 GiB of the sound's; computed, not measured.
_CHUNK_BYTES = int(0.6 * _GIB)
# 10 s in a ResNet34 with its activations, float32; computed from its layers, not measured.
_WINDOW_BYTES = int(0.06 * _GIB)
_BESIDE_BATCHES = 5 * _GIB  # the weights of all models, and the allocators' slack
_CHUNKS_ON_CPU = 8
_MOST_CHUNKS, _MOST_WINDOWS = 32, 128


@dataclass(frozen=True)
class Device:
    """Where and how the models run.

    Attributes:
        name: ``cuda`` or ``cpu``, as torch and CTranslate2 both spell it.
        compute_type: CTranslate2's number format.
        batch_size: Chunks of 30 s that Whisper decodes at once.
        windows_batch_size: Windows that go through detection and diarization at once.
        lanes: Forward passes that run side by side: the cores of a CPU, 1 on CUDA.
        threads: CPU threads of one forward pass: 1 on a CPU (`worker.models.cpu_lanes` says why).
        beside: What diarization runs in while Whisper transcribes: a CUDA stream of its own.
    """

    name: str
    compute_type: str
    batch_size: int
    windows_batch_size: int
    lanes: int
    threads: int
    beside: torch.cuda.Stream | None = field(default=None, compare=False)

    @property
    def torch_device(self) -> torch.device:
        """The device as torch wants it."""
        return torch.device(self.name)

    def on_side_stream(self) -> AbstractContextManager[object]:
        """Queue this thread's kernels beside those of other threads.

        The current stream belongs to a thread, so other threads are not touched. What a stage
        makes on the side stream it also brings to the host there (``.cpu()`` waits for it), and
        weights are read only: nothing crosses between streams.
        """
        return nullcontext() if self.beside is None else torch.cuda.stream(self.beside)


def choose_device(settings: WorkerSettings) -> Device:
    """Return the device that the settings ask for, or the best there is.

    Raises:
        WorkerError: ``MODEL_UNAVAILABLE``: CUDA is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise unavailable(f"DEVICE=cuda, but {NO_CUDA}")
    cores = settings.cpu_threads or len(os.sched_getaffinity(0))
    if has_cuda and settings.device != "cpu":
        beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        return _cuda(settings, cores, torch.cuda.mem_get_info()[0], beside)
    return Device(
        name="cpu",
        compute_type=settings.compute_type or "int8",
        batch_size=settings.batch_size or _CHUNKS_ON_CPU,
        windows_batch_size=settings.windows_batch_size or 32,
        lanes=cores,
        threads=1,
    )


def _cuda(
    settings: WorkerSettings, cores: int, free_bytes: int, beside: torch.cuda.Stream | None
) -> Device:
    """Share out a GPU's memory: half of what the weights leave to each of two stages at once."""
    room = max(free_bytes - _BESIDE_BATCHES, 0) // 2
    return Device(
        name="cuda",
        compute_type=settings.compute_type or "float16",
        batch_size=settings.batch_size or fitting(room, _CHUNK_BYTES, _MOST_CHUNKS),
        windows_batch_size=settings.windows_batch_size
        or fitting(room, _WINDOW_BYTES, _MOST_WINDOWS),
        lanes=1,
        threads=cores,
        beside=beside,
    )


def fitting(room_bytes: int, item_bytes: int, most: int) -> int:
    """Return the largest power of two of items that fits, from 1 to ``most``."""
    count = min(room_bytes // item_bytes, most)
    return 1 << (count.bit_length() - 1) if count else 1


def set_precision() -> None:
    """Multiply in full float32 on CUDA, whatever the libraries' defaults are.

    pyannote switches TF32 off for the whole process each time it runs (its issue 1370: other
    results with it). Set once here, before any stage runs, all jobs and all stages see the same.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

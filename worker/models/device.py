"""The one place that knows what the models run on, and how much of it they take at once.

Source of the defaults: whisperx uses float16 on CUDA; on a CPU int8 halves the time of float32
(3m26 → 1m58, measured by its users) with the same text here.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from torch import nn

from bucketscribe_contract import Stage
from worker.models.folder import ModelsFolder, unavailable
from worker.settings import WorkerSettings

NO_CUDA = (
    "torch sees no CUDA device: choose a GPU type for the endpoint, with a driver for CUDA "
    f"{torch.version.cuda or '(this torch is built without)'}, or set DEVICE=cpu"
)
_GB = 10**9
_BEAMS, _FRAMES, _TOKENS = 5, 1500, 100  # of a chunk of 30 s; the tokens are those of fast speech
# A window of 10 s in ResNet34, float32: six maps of 32 x 80 x 1,000 are alive in its first layers.
WINDOW_BYTES = 64_000_000
# 30 s in wav2vec2, float32: four maps of 512 x 96,000 are alive in its first layers.
SLICE_BYTES = 800_000_000
_MOST_WINDOWS, _MOST_SLICES = 32, 8  # pyannote gains nothing beyond 16
_MOST_CHUNKS = 32  # more would only keep alignment waiting
_CHUNKS_ON_CPU = 8
# Contexts and workspaces of torch, cuBLAS, cuDNN and CTranslate2, and what their allocators keep.
_BESIDE_BYTES = int(1.5 * _GB)
_BATCH_SHARE = 4  # of what the weights leave, diarization and alignment get one in so many each


@dataclass(frozen=True)
class WhisperShape:
    """What a Whisper model's memory goes by; not its weights, of which large-v3-turbo has half.

    Attributes:
        text_layers: Layers of the decoder: 32 in large-v3, 4 in turbo.
        width: Of a layer (``n_state``), a head for each 64.
    """

    text_layers: int = 32
    width: int = 1280

    @property
    def chunk_bytes(self) -> int:
        """What CTranslate2 takes for 30 s in float16: the larger of encoder and decoder.

        The encoder holds one layer's attention twice, the decoder keys and values of the sound once
        and of the text once a beam. For large-v2 that makes 6.2 GB with its weights, a batch of 8
        and 0.5 GB of CUDA's own; faster-whisper's README measured 6.1.
        """
        encoder = 2 * 2 * (self.width // 64) * _FRAMES**2
        decoder = 2 * 2 * self.width * self.text_layers * (_FRAMES + _BEAMS * _TOKENS)
        return max(encoder, decoder)

    @classmethod
    def read(cls, model: Path) -> Self:
        """Read it from the names and shapes in CTranslate2's ``model.bin``; else large-v3's.

        Source: ``ctranslate2.specs.model_spec``, ``_serialize``; the weights are skipped.
        """
        layers, width = set(), 0
        try:
            with model.open("rb") as file:

                def number(code: str) -> int:
                    return int(struct.unpack(code, file.read(struct.calcsize(code)))[0])

                number("I")  # the format's version
                file.seek(number("H") + 4, os.SEEK_CUR)  # the architecture and its revision
                for _ in range(number("I")):
                    name = file.read(number("H"))
                    sizes = [number("I") for _ in range(number("B"))]
                    if layer := re.match(rb"decoder/layer_\d+/", name):
                        layers.add(layer[0])
                    elif name.startswith(b"encoder/conv1/weight\0"):
                        width = sizes[0]
                    number("B")  # the weights' type
                    file.seek(number("I"), os.SEEK_CUR)
        except (OSError, struct.error):
            return cls()
        return cls(len(layers), width) if layers and width else cls()


@dataclass(frozen=True)
class Device:
    """Where and how the models run.

    Attributes:
        name: ``cuda`` or ``cpu``, as torch and CTranslate2 both spell it.
        compute_type: CTranslate2's number format.
        batch_size: Chunks of 30 s that Whisper decodes at once.
        windows_batch_size: Windows that go through detection and diarization at once.
        slices_batch_size: Slices of 30 s that are aligned at once; 1 on a CPU.
        lanes: Forward passes that run side by side: the cores of a CPU, 1 on CUDA.
        threads: CPU threads of one forward pass: 1 on a CPU (`worker.models.cpu_lanes` says why).
        streams: CUDA streams of the stages that run while Whisper transcribes.
    """

    name: str
    compute_type: str
    batch_size: int
    windows_batch_size: int
    lanes: int
    threads: int
    slices_batch_size: int = 1
    streams: Mapping[Stage, torch.cuda.Stream] = field(default_factory=dict, compare=False)

    @property
    def torch_device(self) -> torch.device:
        """The device as torch wants it."""
        return torch.device(self.name)

    def on_stream_of(self, stage: Stage) -> AbstractContextManager[object]:
        """Queue this thread's kernels beside those of other threads.

        CTranslate2's stream and torch's default one wait for one another: what runs beside Whisper
        must run in neither. The current stream belongs to a thread, so other threads are not
        touched. What a stage makes on its stream it also brings to the host there (``.cpu()`` waits
        for it), and weights are read only: nothing crosses between streams.
        """
        stream = self.streams.get(stage)
        return nullcontext() if stream is None else torch.cuda.stream(stream)


def choose_device(settings: WorkerSettings, folder: ModelsFolder | None = None) -> Device:
    """Return the device that the settings ask for, or the best there is.

    Args:
        settings: What is wanted.
        folder: The models, whose weights take a part of a GPU's memory.

    Raises:
        WorkerError: ``MODEL_UNAVAILABLE``: CUDA is asked for and there is none; the GPU has too
            little memory left for the models.
    """
    has_cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not has_cuda:
        raise unavailable(f"DEVICE=cuda, but {NO_CUDA}")
    cores = settings.cpu_threads or usable_cores()
    if has_cuda and settings.device != "cpu":
        shape, weights = WhisperShape(), 0
        if folder is not None:
            shape = WhisperShape.read(folder.locate(folder.whisper.path) / "model.bin")
            weights = folder.weights_bytes
        free = torch.cuda.mem_get_info()[0]
        if free < weights:
            raise unavailable(
                f"the GPU has {free / _GB:.1f} GB free and the models take {weights / _GB:.1f}: "
                "choose a GPU type with more memory, or a smaller WHISPER_MODEL"
            )
        device = cuda_device(settings, cores, free - weights, shape)
        streams = {
            stage: torch.cuda.Stream()  # type: ignore[no-untyped-call]
            for stage in (Stage.ALIGN, Stage.DIARIZE)
        }
        return replace(device, streams=streams)
    return Device(
        name="cpu",
        compute_type=settings.compute_type or "int8",
        batch_size=settings.batch_size or _CHUNKS_ON_CPU,
        windows_batch_size=settings.windows_batch_size or 32,
        lanes=cores,
        threads=1,
    )


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Count the cores that this process may keep busy: a container's quota, not the host's cores.

    Args:
        cgroup: Where the container sees its own: ``cpu.max`` (v2), or ``cpu/cpu.cfs_*`` (v1).
    """
    cores = len(os.sched_getaffinity(0))
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        with suppress(OSError, ValueError):  # no such file, or no limit: "max"
            text = " ".join((cgroup / file).read_text() for file in files)
            quota, period = map(int, text.split())
            return max(1, min(cores, quota // period)) if quota > 0 else cores
    return cores


def cuda_device(
    settings: WorkerSettings, cores: int, free_bytes: int, shape: WhisperShape
) -> Device:
    """Share out what the weights leave of a GPU's memory to the three stages that run at once.

    Diarization and alignment get up to a quarter each, Whisper what is left.
    """
    room = max(free_bytes - _BESIDE_BYTES, 0)
    windows = fitting(room // _BATCH_SHARE, WINDOW_BYTES, _MOST_WINDOWS)
    windows = settings.windows_batch_size or windows
    slices = fitting(room // _BATCH_SHARE, SLICE_BYTES, _MOST_SLICES)
    left = max(room - windows * WINDOW_BYTES - slices * SLICE_BYTES, 0)
    return Device(
        name="cuda",
        compute_type=settings.compute_type or "float16",
        batch_size=settings.batch_size or fitting(left, shape.chunk_bytes, _MOST_CHUNKS),
        windows_batch_size=windows,
        slices_batch_size=slices,
        lanes=1,
        threads=cores,
    )


def fitting(room_bytes: int, item_bytes: int, most: int) -> int:
    """Return the largest power of two of items that fits, from 1 to ``most``."""
    count = min(room_bytes // item_bytes, most)
    return 1 << (count.bit_length() - 1) if count else 1


def use_bfloat16(model: nn.Module) -> None:
    """Have a model's LSTMs multiply in bfloat16 where a CPU does so by itself.

    Their inputs and outputs stay float32. A window's segmentation takes a fifth less time, GE2E
    two fifths.
    """
    # upstream: torch 2.8.0, no issue known; can go when it has a public name
    if not torch.cpu._is_avx512_bf16_supported():
        return
    for lstm in model.modules():
        if isinstance(lstm, nn.LSTM):
            lstm.bfloat16()
            lstm.register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(),))
            lstm.register_forward_hook(
                lambda _, __, found: (found[0].float(), tuple(s.float() for s in found[1]))
            )


def set_precision() -> None:
    """Multiply in full float32 on CUDA, whatever the libraries' defaults are.

    pyannote switches TF32 off for the whole process each time it runs (its issue 1370: other
    results with it). Set once here, before any stage runs, all jobs and all stages see the same.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False

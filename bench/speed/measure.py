"""The bare model forwards inside a run: what goes into them, and what comes out.

`around_forwards` sees each outermost call into a model: torch modules, the parts of a WeSpeaker
or GE2E model that are called by name, and CTranslate2's encoder, decoder and language head. What
is outermost is decided by context: stages that overlap do not hide each other's calls, and a
forward that is split over threads (`worker.models.cpu_lanes`) is one.

Clock and memory, as they have to be read around models.

On CUDA a kernel that was started is not a kernel that has run: the clock is read after
`synchronize`. Memory is the peak of this process and of its children, above what they held.

What it was measured on: cores, memory, GPU, versions. No names of hosts.

What many runs come to: medians, ratios of pairs, spread.

Pure: takes seconds by run; returns frozen figures that JSON can hold.
"""

from __future__ import annotations

import contextlib
import copy
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Protocol, Self

import psutil

WHISPER_METHODS = ("encode", "generate", "detect_language")
WESPEAKER_METHODS = ("compute_fbank", "forward_frames", "forward_embedding")
GE2E_METHODS = ("mel_frames",)


class Around(Protocol):
    """What is done around a forward: it has to call, and to return what that returned."""

    def __call__(self, what: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Handle one forward.

        Args:
            what: The model's class, and the method where it is not its ``__call__``.
            call: The forward; the model is its first argument.
            args: For it.
            named: For it.
        """


@contextlib.contextmanager
def around_forwards(around: Around) -> Iterator[None]:
    """Let every outermost forward of the block go through a function."""
    with contextlib.ExitStack() as undo:
        inside: ContextVar[bool] = ContextVar("inside", default=False)
        for owner, names in _surfaces():
            for name in names:
                undo.enter_context(_replaced(owner, name, around, inside))
        yield


class ForwardMemory:
    """Keeps what comes out of each forward, and gives it again in the place of the forward.

    What a run costs besides its forwards is the time that it takes on memory alone; that holds
    for forwards that run side by side too, where their seconds add up to more than the run's.
    """

    def __init__(self) -> None:
        self._known: dict[object, Any] = {}

    def __call__(self, what: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Answer from memory, or do the forward and remember."""
        key = what, tuple(_fingerprint(a) for a in (*args[1:], *named.values()))
        if key not in self._known:
            found = call(*args, **named)
            self._known[key] = copy.deepcopy(found)
            return found
        return self._known[key]


class ForwardRecorder:
    """Keeps what goes into each forward, so that it can be done again alone."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []

    def __call__(self, what: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Copy the input, then do the forward; buffers may be filled anew after it."""
        kept = tuple(_copy(a) for a in args), {k: _copy(v) for k, v in named.items()}
        self.calls.append((what, call, *kept))
        return call(*args, **named)


def _surfaces() -> list[tuple[type, tuple[str, ...]]]:
    """Name the classes and methods through which models are entered."""
    from ctranslate2.models import Whisper
    from pyannote.audio.models.embedding.wespeaker import BaseWeSpeakerResNet
    from torch import nn

    from worker.models.ge2e import GE2EEmbedding

    return [
        (nn.Module, ("__call__",)),
        (Whisper, WHISPER_METHODS),
        (BaseWeSpeakerResNet, WESPEAKER_METHODS),
        (GE2EEmbedding, GE2E_METHODS),
    ]


@contextlib.contextmanager
def _replaced(owner: type, name: str, around: Around, inside: ContextVar[bool]) -> Iterator[None]:
    original = getattr(owner, name)

    def called(model: Any, *args: Any, **named: Any) -> Any:
        if inside.get():
            return original(model, *args, **named)
        token = inside.set(True)
        try:
            what = type(model).__name__ + ("" if name == "__call__" else f".{name}")
            return around(what, original, model, *args, **named)
        finally:
            inside.reset(token)

    setattr(owner, name, called)
    try:
        yield
    finally:
        setattr(owner, name, original)


def _fingerprint(value: Any) -> object:
    """Tell inputs apart by shape and some of their values."""
    import torch

    if not isinstance(value, torch.Tensor):
        return None
    return tuple(value.shape), tuple(value.flatten()[:: max(1, value.numel() // 500)].tolist())


def _copy(value: Any) -> Any:
    """Copy a tensor; leave models and everything else."""
    import torch

    return value.detach().clone() if isinstance(value, torch.Tensor) else value


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


LIBRARIES = (
    "whisperx",
    "pyannote.audio",
    "faster-whisper",
    "ctranslate2",
    "torch",
    "transformers",
    "numpy",
)


def describe() -> dict[str, Any]:
    """Return the machine and the versions."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "ram_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


@dataclass(frozen=True)
class Figure:
    """One thing measured several times.

    Attributes:
        median: Of all runs.
        low: The smallest.
        high: The largest.
        runs: How many there were.
    """

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Sum up at least one value."""
        return cls(
            median=round(median(values), 4),
            low=round(min(values), 4),
            high=round(max(values), 4),
            runs=len(values),
        )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Divide pair by pair, as they ran side by side: what slows both cancels out."""
    return Figure.of([our / their for our, their in zip(ours, theirs, strict=True)])


def by_stage(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Turn one mapping a run into one list a stage; a stage that a run lacks took no time."""
    stages = dict.fromkeys(stage for run in runs for stage in run)
    return {stage: [run.get(stage, 0.0) for run in runs] for stage in stages}


def efficiency(floor_s: float, wall_s: float) -> float:
    """Say which part of the wall time the bare model forwards need."""
    return round(floor_s / wall_s, 4)

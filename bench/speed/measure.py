"""What is measured, and how: model forwards, seconds, memory, the machine, medians of many runs.

`around_forwards` sees each outermost call into a model. What is outermost is decided by context:
stages that overlap do not hide each other's calls, and a forward that is split over threads
(`worker.models.cpu_lanes`) is one. Clocks are read after `synchronize`, since on CUDA a kernel that
was started is not a kernel that has run.
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
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Self

import psutil

WHISPER_METHODS = ("encode", "generate", "detect_language")
WESPEAKER_METHODS = ("compute_fbank", "forward_frames", "forward_embedding")
GE2E_METHODS = ("mel_frames",)
ENGINES = ("whisperx", "pyannote.audio", "faster-whisper", "ctranslate2")
LIBRARIES = (*ENGINES, "torch", "transformers", "numpy")
SAMPLE_S = 0.02
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


Around = Callable[..., Any]
"""(name, forward, model, …) → what the forward returned; the name is the model's class, and the
method where that is not ``__call__``."""


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


class MemoryPeak:
    """Watches memory while its block runs.

    The kernel's own peak of this process (``VmHWM``, reset through ``clear_refs``) is exact;
    a thread samples the sum with its children, should there be any.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        import torch

        self._before = self._most = self._resident()
        self._cuda_before = torch.cuda.memory_allocated()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        _CLEAR.write_text("5")
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._sampler.join()

    def read(self) -> dict[str, float]:
        """Return bytes; after the block.

        Returns:
            ``before`` (resident before it, children included), ``peak`` (the most that was
            resident during it), ``added`` (their difference), ``cuda`` (the most that torch held
            on the GPU, above what it held before; 0 without one).
        """
        import torch

        lines = _STATUS.read_text().splitlines()
        own = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
        peak = max(self._most, own)
        cuda = torch.cuda.max_memory_allocated() - self._cuda_before
        return {"before": self._before, "peak": peak, "added": peak - self._before, "cuda": cuda}

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            self._most = max(self._most, self._resident())

    def _resident(self) -> int:
        total = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
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


def figures(runs: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    """Sum up every stage."""
    return {stage: figure(values) for stage, values in by_stage(runs).items()}

"""The bare model forwards inside a run: what goes into them, and what comes out.

`around_forwards` sees each outermost call into a model: torch modules, the parts of a WeSpeaker
or GE2E model that are called by name, and CTranslate2's encoder, decoder and language head. What
is outermost is decided by context: stages that overlap do not hide each other's calls, and a
forward that is split over threads (`worker.lanes`) is one.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

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

    from worker.ge2e import GE2EEmbedding

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

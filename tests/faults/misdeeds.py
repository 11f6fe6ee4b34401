"""What a worker can do to itself in a stage. Imported by ``faulty_handler.py`` only.

A misdeed takes its order and the running job's cancel token, and gives a context manager around the
stage's own function: before it, after it, or for its time.
"""

from __future__ import annotations

import errno
import io
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from tests.faults.orders import Order
from worker.cancel import CancelToken

PAUSE_S = 60.0
CUDA = "CUDA error: an illegal memory access was encountered"
"""After it every CUDA call of the process fails: such a worker must be replaced."""
Misdeed = Callable[[Order, CancelToken], AbstractContextManager[Any]]


@contextmanager
def killed(*_: object) -> Iterator[None]:
    """Die when the stage has done its work and nobody knows yet."""
    yield
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(PAUSE_S)


@contextmanager
def terminated(*_: object) -> Iterator[None]:
    """Be told to leave while the stage runs."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.5)
    yield


@contextmanager
def paused(_: Order, token: CancelToken) -> Iterator[None]:
    """Stand still until the job is cancelled."""
    deadline = time.monotonic() + PAUSE_S
    while not token.is_cancelled and time.monotonic() < deadline:
        time.sleep(0.02)
    yield


@contextmanager
def suspended(*_: object) -> Iterator[None]:
    """Stand still with all processes, until somebody wakes them."""
    os.killpg(0, signal.SIGSTOP)
    yield


def raising(error: type[Exception], message: str = "injected") -> Misdeed:
    """Make a misdeed of an error."""

    @contextmanager
    def misdeed(order: Order, _: CancelToken) -> Iterator[None]:
        raise error(f"{message} in {order.stage}")
        yield

    return misdeed


def disk_full_before(*_: object) -> AbstractContextManager[Any]:
    """See a disk that has no room."""
    return patch("shutil.disk_usage", lambda _: SimpleNamespace(free=0))


def disk_full_midway(order: Order, _: CancelToken) -> AbstractContextManager[Any]:
    """Write until there is no room left."""
    real = Path.open

    class SmallDisk(io.BufferedWriter):
        def write(self, block: Any) -> int:
            if self.tell() + len(block) > order.amount:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(block)

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "a" in mode or "w" in mode:
            return SmallDisk(io.FileIO(path, mode))
        return real(path, mode, *args, **kwargs)

    return patch.object(Path, "open", opened)


def out_of_memory(order: Order, _: CancelToken) -> AbstractContextManager[Any]:
    """Refuse batches larger than the amount inside the stage's model."""

    def check(batch: int) -> None:
        if batch > order.amount:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB (injected)")

    if order.stage != "transcribe":
        return _around_models(order.stage, check)

    from worker.engines.whisper import Whisper

    real = Whisper.decode

    def decode(whisper: Any, chunks: Any, *args: Any) -> Any:
        check(len(chunks))
        return real(whisper, chunks, *args)

    return patch.object(Whisper, "decode", decode)


def model_raising(order: Order, _: CancelToken) -> AbstractContextManager[Any]:
    """Have the stage's torch models raise."""

    def refuse(_: int) -> None:
        raise RuntimeError(f"injected in a model of {order.stage}")

    return _around_models(order.stage, refuse)


def _around_models(stage: str, look: Callable[[int], None]) -> AbstractContextManager[Any]:
    """Look at the batch of each outermost call of a stage's torch models.

    Alignment and diarization run side by side, and share no model.
    """
    from torch import nn

    real = nn.Module.__call__
    inside = ContextVar("inside", default=False)  # goes with the parts of a batch to the lanes

    def call(module: Any, *args: Any, **kwargs: Any) -> Any:
        is_aligner = type(module).__name__.startswith("Wav2Vec2")
        if inside.get() or is_aligner != (stage == "align"):
            return real(module, *args, **kwargs)
        look(args[0].shape[0] if args and hasattr(args[0], "shape") else 1)
        before = inside.set(True)
        try:
            return real(module, *args, **kwargs)
        finally:
            inside.reset(before)

    return patch.object(nn.Module, "__call__", call)


def inflated(segments: tuple[Any, ...], size: int) -> tuple[Any, ...]:
    """Return segments whose JSON has ``size`` bytes and packs badly, the same each time."""
    chance = random.Random(7)  # noqa: S311 - text, not secrets
    made: list[Any] = []
    while size > 0:
        pattern = segments[len(made) % len(segments)]
        words = tuple(_scrambled(word, chance) for word in pattern.words)
        text = " ".join(word.word for word in words)
        made.append(pattern.model_copy(update={"id": len(made), "text": text, "words": words}))
        size -= len(made[-1].model_dump_json())
    return tuple(made)


def _scrambled(word: Any, chance: random.Random) -> Any:
    letters = f"{chance.getrandbits(32):x}"
    times = {"start": word.start + chance.random() / 100, "end": word.end + chance.random() / 100}
    return word.model_copy(update={"word": letters, "score": chance.random(), **times})


MISDEEDS: dict[str, Misdeed] = {
    "die": killed,
    "leave": terminated,
    "pause": paused,
    "freeze": suspended,
    "raise": raising(AttributeError),
    "meet a CUDA error": raising(RuntimeError, CUDA),
    "have its model raise": model_raising,
    "find the disk full": disk_full_before,
    "fill the disk": disk_full_midway,
    "run out of memory": out_of_memory,
    "run out of host memory": raising(MemoryError),
}

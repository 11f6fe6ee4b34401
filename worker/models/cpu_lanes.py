"""CPU lanes: forward passes of one thread each, as many at once as there are cores.

CTranslate2 and torch share one OpenMP library, whose threads spin at every barrier: beside a
Whisper of two threads torch needs 2.3 to 3.3 times as long (on 2 cores). With one thread a pass
there are no barriers. All models share the cores, and a pass waits until one is free: more at once
would not end sooner, and each holds what it computes with (310 MB for a batch of a small Whisper).
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from worker.memory import HeapTrimmer

Forward = Callable[..., Tensor]
# a lane that waited for a lane would wait for ever
_in_a_lane = contextvars.ContextVar("in_a_lane", default=False)


class CpuLanes:
    """The cores, and threads that each take a part of a batch to one of them.

    Args:
        count: How many forward passes run side by side.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._cores = threading.BoundedSemaphore(count)
        self._pool = ThreadPoolExecutor(count, "lane")
        self._trim = HeapTrimmer()

    @contextmanager
    def core(self) -> Iterator[None]:
        """Have a core for one forward pass; wait for it."""
        with self._cores:
            outside = _in_a_lane.set(True)
            try:
                yield
            finally:
                _in_a_lane.reset(outside)
        self._trim()

    def spread(self, module: nn.Module, method: str = "forward") -> None:
        """Have the module's forward passes split their batches over the lanes from now on.

        Args:
            module: Takes tensors whose first dimension is the batch, gives one such tensor, and
                treats each row by itself. Batches of 1 stay as they are.
            method: Another way into the module.
        """
        whole: Forward = getattr(module, method)

        def forward(*arguments: Any, **named: Any) -> Tensor:
            if _in_a_lane.get():
                return whole(*arguments, **named)
            rows = _rows(arguments, named)
            if rows < 2:
                with self.core():
                    return whole(*arguments, **named)
            return self._in_parts(whole, rows, arguments, named)

        # upstream: torch 2.8.0, no issue known; can go when a pass can be kept from its barriers
        setattr(module, method, forward)

    def _in_parts(
        self, whole: Forward, rows: int, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Tensor:
        size = math.ceil(rows / self.count)
        parts = []
        for start in range(0, rows, size):
            cut = slice(start, start + size)
            some = tuple(_cut(value, rows, cut) for value in arguments)
            more = {name: _cut(value, rows, cut) for name, value in named.items()}
            parts.append(self._submit(whole, some, more))
        wait(parts)
        return torch.cat([part.result() for part in parts])

    def _submit(
        self, whole: Forward, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> Future[Tensor]:
        """Run a part under the caller's gradient mode, which belongs to its thread."""
        inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        context = contextvars.copy_context()

        def run() -> Tensor:
            with self.core(), torch.inference_mode(inference), torch.set_grad_enabled(gradients):
                return whole(*arguments, **named)

        return self._pool.submit(context.run, run)


def _rows(arguments: tuple[Any, ...], named: dict[str, Any]) -> int:
    tensors = [v for v in (*arguments, *named.values()) if isinstance(v, Tensor) and v.dim()]
    return len(tensors[0]) if tensors else 0


def _cut(value: Any, rows: int, part: slice) -> Any:
    is_batch = isinstance(value, Tensor) and value.dim() and len(value) == rows
    return value[part] if is_batch else value

"""A job's way to stop: set by the queue's side, looked at between batches by the GPU's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from bucketscribe_contract import Stage
from worker.errors import JobCancelled

if TYPE_CHECKING:
    from torch import nn


class CancelToken:
    """A flag that crosses threads. Python cannot interrupt a forward pass, only precede it."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop before its next batch."""
        self._set.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._set.is_set()

    def check(self, stage: Stage) -> None:
        """Raise `JobCancelled` if the job was asked to stop."""
        if self.is_cancelled:
            raise JobCancelled(stage)


@contextmanager
def checked_before_each_forward(
    token: CancelToken, stage: Stage, *modules: nn.Module
) -> Iterator[None]:
    """Look at the token before every forward pass of the modules, so a stop takes one batch."""

    def check(*_: Any) -> None:
        token.check(stage)

    hooks = [module.register_forward_pre_hook(check) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()

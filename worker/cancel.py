"""How a job is cancelled, and what each of its stages runs in.

Takes a cancellation from the queue's side; the stages check for it between batches.
Raises `JobCancelled`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bucketscribe_contract import Stage
from worker.errors import JobCancelled


class CancelToken:
    """A flag that crosses threads. Python cannot interrupt a forward pass, only precede it.

    Args:
        parent: Cancels this one, too.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._parent = parent
        self._set = threading.Event()

    def cancel(self) -> None:
        """Ask the job to stop before its next batch."""
        self._set.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self._set.is_set() or (self._parent is not None and self._parent.is_cancelled)

    def check(self, stage: Stage) -> None:
        """Raise `JobCancelled` if the job was asked to stop."""
        if self.is_cancelled:
            raise JobCancelled(stage)


@dataclass(frozen=True)
class StageContext:
    """What a stage runs in, beside its input.

    Attributes:
        cancel: Checked between batches.
        progress: Takes the share of the stage that is done, in [0, 1].
        batch_size: How many windows, spans or segments go through a model at once, at most.
        lanes: On a CPU, how many forward passes of an aligner run side by side.
    """

    cancel: CancelToken = field(default_factory=CancelToken)
    progress: Callable[[float], None] = lambda _: None
    batch_size: int = 1
    lanes: int = 1

    def part(self, start: float, length: float) -> StageContext:
        """Return the context of a part of the stage, which reports its share of the whole.

        Args:
            start: Where the part begins, in [0, 1].
            length: How much of the stage it is.
        """
        return replace(self, progress=lambda done: self.progress(start + length * done))

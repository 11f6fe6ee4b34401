"""How a job is cancelled, until when S3 may answer it, and what each of its stages runs in.

Takes a cancellation from the queue's side; the stages check for it between batches.
Raises `JobCancelled`; a `Deadline` also ``STORAGE_UNAVAILABLE``.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from bucketscribe_contract import FailureCode, Stage
from worker.errors import JobCancelled, WorkerError

LOOK_S = 0.2
"""How often one who waits looks for a cancellation."""


class CancelToken:
    """A flag that crosses threads. Python cannot interrupt a forward pass, only precede it.

    Args:
        parent: Cancels this one, too.
    """

    def __init__(self, parent: CancelToken | None = None) -> None:
        self._parent = parent
        self._at = math.inf

    def cancel(self) -> None:
        """Ask the job to stop before its next batch."""
        self._at = min(self._at, time.monotonic())

    @property
    def at(self) -> float:
        """When the job was asked to stop, in monotonic seconds; infinite if it was not."""
        return self._at if self._parent is None else min(self._at, self._parent.at)

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was asked to stop."""
        return self.at < math.inf

    def check(self, stage: Stage) -> None:
        """Raise `JobCancelled` if the job was asked to stop."""
        if self.is_cancelled:
            raise JobCancelled(stage)


class Deadline:
    """Until when S3 may answer: its time is over, or the job is cancelled.

    Args:
        limit_s: From now on.
        cancel: The job's.
        stage: Named by errors.
        grace_s: How long it goes on when the job is cancelled.
    """

    def __init__(
        self, limit_s: float, cancel: CancelToken, stage: Stage, grace_s: float = 0.0
    ) -> None:
        self.stage = stage
        self._limit_s, self._cancel, self._grace_s = limit_s, cancel, grace_s
        self._ends = time.monotonic() + limit_s

    @property
    def is_over(self) -> bool:
        """Whether `check` raises."""
        return time.monotonic() >= min(self._ends, self._cancel.at + self._grace_s)

    def check(self) -> None:
        """Raise `JobCancelled`, or `WorkerError`, when it is over."""
        if self.is_over:
            self._cancel.check(self.stage)
            message = f"S3 took over {self._limit_s:.0f} s; submit again"
            raise WorkerError(FailureCode.STORAGE_UNAVAILABLE, message, self.stage)


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

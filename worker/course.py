"""How the stages of a job are run, whichever they are.

Timed and reported; in batches that fit into memory; and, where the text is worth delivering
without what a stage adds, with less in place of a failure. Several threads may use one `Course`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from contract import FailureCode, Stage
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.memory import is_poisoned, with_smaller_batches
from worker.progress import ProgressReporter

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Course:
    """What is known of a job's stages so far.

    Args:
        progress: Told of every stage.
        is_strict: Whether a failure stays one.
    """

    def __init__(self, progress: ProgressReporter, is_strict: bool) -> None:
        self.is_poisoned = False
        self._progress = progress
        self._is_strict = is_strict
        self._spent: dict[Stage, float] = {}
        self._warnings: dict[Stage, tuple[str, ...]] = {}
        self._started = time.perf_counter()

    @property
    def timings(self) -> dict[Stage, float]:
        """Seconds of each stage that was run; stages that overlap add up to more than the job."""
        return {stage: round(self._spent[stage], 3) for stage in Stage if stage in self._spent}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was done in smaller batches, in the order of the stages."""
        return sum((self._warnings.get(stage, ()) for stage in Stage), ())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job was taken."""
        return round(time.perf_counter() - self._started, 3)

    @contextmanager
    def stage(self, stage: Stage, token: CancelToken) -> Iterator[Callable[[float], None]]:
        """Time a stage, or one more part of it; gives what takes the share of it that is done."""
        token.check(stage)
        self._progress.report(stage)
        started = time.perf_counter()
        try:
            yield lambda share: self._progress.report(stage, share)
        except Exception:
            self._progress.fail(stage)
            raise
        finally:
            spent = time.perf_counter() - started
            self._spent[stage] = self._spent.get(stage, 0.0) + spent

    def in_batches(self, stage: Stage, batch_size: int, run: Callable[[int], T]) -> T:
        """Run a stage in batches that fit into memory; a smaller one is a warning."""
        result, warnings = with_smaller_batches(stage, batch_size, run)
        if warnings:
            self._warnings[stage] = warnings
        return result

    def or_degraded(self, stage: Stage, run: Callable[[], T], degraded: Callable[[], T]) -> T:
        """Run a stage whose failure leaves the text worth delivering, unless the job is strict."""
        try:
            return run()
        except WorkerError:
            raise
        except Exception as exc:  # whatever it is: the text is paid for
            logger.warning("%s failed: %s: %s", stage, type(exc).__name__, exc)
            self.is_poisoned = self.is_poisoned or is_poisoned(exc)
            if self._is_strict:
                message = f"{type(exc).__name__} in {stage}, and the job is strict"
                raise WorkerError(FailureCode.INTERNAL, message, stage) from exc
            return degraded()

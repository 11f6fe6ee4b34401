"""Run a job's stages: threads, timings, smaller batches, degraded results.

Takes functions that run a stage; returns what they return. `StageRunner` times and reports each
stage, halves its batch where memory runs out, and replaces what an optional stage could not do.
Raises `WorkerError`, and from a `TaskGroup` the failure that came first.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Self, TypeVar

from bucketscribe_contract import FailureCode, Stage
from worker.cancel import CancelToken, StageContext
from worker.errors import WorkerError
from worker.host.progress import ProgressReporter
from worker.memory import is_poisoned, with_smaller_batches

logger = logging.getLogger(__name__)
T = TypeVar("T")
_MAX_THREADS = 4


class TaskGroup:
    """A ``with`` block in which a job has several threads.

    Leaving the block waits for all of them. It raises the failure that came first, not the
    cancellations that followed from it.

    Args:
        token: The job's. `TaskGroup.token` is cancelled with it, and when a task fails.
    """

    def __init__(self, token: CancelToken) -> None:
        self.token = CancelToken(token)
        self._lock = threading.Lock()
        self._first: BaseException | None = None

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(_MAX_THREADS, "task")
        return self

    def start(self, run: Callable[[], T]) -> Future[T]:
        """Run a function in a thread of its own; it has to check `TaskGroup.token`."""

        def task() -> T:
            try:
                return run()
            except BaseException as exc:
                self._stop(exc)
                raise

        return self._pool.submit(task)

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None:
            self._stop(error)
        self._pool.shutdown(wait=True)
        if self._first is not None and self._first is not error:
            raise self._first from None

    def _stop(self, error: BaseException) -> None:
        with self._lock:
            if self._first is None:
                self._first = error
        self.token.cancel()


class StageRunner:
    """Runs the stages of one job and keeps what is known of them. Several threads may use it.

    Args:
        progress: Told of every stage.
        is_strict: Whether the job fails where it could be degraded.
    """

    def __init__(self, progress: ProgressReporter, is_strict: bool) -> None:
        self.is_poisoned = False
        self._progress = progress
        self._is_strict = is_strict
        self._seconds: dict[Stage, float] = {}
        self._warnings: dict[Stage, tuple[str, ...]] = {}
        self._started = time.perf_counter()

    @property
    def timings(self) -> dict[Stage, float]:
        """Seconds of each stage that ran; stages that overlap add up to more than the job."""
        return {stage: round(self._seconds[stage], 3) for stage in Stage if stage in self._seconds}

    @property
    def warnings(self) -> tuple[str, ...]:
        """Which stages ran in smaller batches, in the order of the stages."""
        return sum((self._warnings.get(stage, ()) for stage in Stage), ())

    @property
    def elapsed_s(self) -> float:
        """Seconds since the job was taken."""
        return round(time.perf_counter() - self._started, 3)

    @contextmanager
    def stage(self, stage: Stage, token: CancelToken) -> Iterator[StageContext]:
        """Time and report a stage, or one more part of it; gives the context that it runs in."""
        token.check(stage)
        self._progress.report(stage)
        started = time.perf_counter()
        try:
            yield StageContext(token, lambda share: self._progress.report(stage, share))
        except Exception:
            self._progress.fail(stage)
            raise
        finally:
            seconds = time.perf_counter() - started
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def in_batches(
        self, stage: Stage, ctx: StageContext, batch_size: int, run: Callable[[StageContext], T]
    ) -> T:
        """Run a stage in batches that fit into memory; a batch that was halved is a warning."""
        result, warnings = with_smaller_batches(
            stage, batch_size, lambda batch: run(replace(ctx, batch_size=batch))
        )
        if warnings:
            self._warnings[stage] = warnings
        return result

    def or_degraded(self, stage: Stage, run: Callable[[], T], degraded: Callable[[], T]) -> T:
        """Run a stage without which the text is still worth delivering, unless it is strict."""
        try:
            return run()
        except WorkerError:
            raise
        except Exception as exc:  # any failure: the text is there and has cost GPU time
            logger.warning("%s failed: %s: %s", stage, type(exc).__name__, exc)
            self.is_poisoned = self.is_poisoned or is_poisoned(exc)
            if self._is_strict:
                message = f"{type(exc).__name__} in {stage}, and the job is strict"
                raise WorkerError(FailureCode.INTERNAL, message, stage) from exc
            return degraded()

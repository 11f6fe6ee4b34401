"""How the stages of a job are run, whichever they are.

Timed and reported; in batches that fit into memory; and, where the text is worth delivering
without what a stage adds, with less in place of a failure. Several threads may use one `Course`.

Threads of one job, side by side: the first failure stops the others, none outlives the job.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar

from bucketscribe_contract import FailureCode, Stage
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.host.progress import ProgressReporter
from worker.memory import is_poisoned, with_smaller_batches

T = TypeVar("T")
_MOST = 4


class Branches:
    """A ``with`` block in which a job has several threads.

    Leaving it waits for all of them. What is raised then is the failure that came first, not the
    cancellation that it caused elsewhere.

    Args:
        token: The job's; `Branches.token` is set with it, and when a branch fails.
    """

    def __init__(self, token: CancelToken) -> None:
        self.token: CancelToken = _BranchToken(token)
        self._lock = threading.Lock()
        self._first: BaseException | None = None

    def __enter__(self) -> Self:
        self._pool = ThreadPoolExecutor(_MOST, "branch")
        return self

    def start(self, run: Callable[[], T]) -> Future[T]:
        """Run a function in a thread of its own; it has to look at `Branches.token`."""

        def branch() -> T:
            try:
                return run()
            except BaseException as exc:
                self._stop(exc)
                raise

        return self._pool.submit(branch)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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


class _BranchToken(CancelToken):
    def __init__(self, job: CancelToken) -> None:
        super().__init__()
        self._job = job

    @property
    def is_cancelled(self) -> bool:
        return self._job.is_cancelled or super().is_cancelled


logger = logging.getLogger(__name__)


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

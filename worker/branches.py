"""Threads of one job, side by side: the first failure stops the others, none outlives the job."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self, TypeVar

from worker.cancel import CancelToken

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

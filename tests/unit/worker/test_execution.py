"""TaskGroup of a job: the first failure stops the others and is the one that is told."""

from __future__ import annotations

import threading

import pytest

from bucketscribe_contract import Stage
from worker.cancel import CancelToken
from worker.errors import JobCancelled
from worker.execution import TaskGroup


def work_until_stopped(token: CancelToken, begun: threading.Event) -> None:
    """Work, looking at the token."""
    begun.set()
    while True:
        token.check(Stage.DIARIZE)
        threading.Event().wait(0.001)


def test_tasks_return_their_results() -> None:
    with TaskGroup(CancelToken()) as group:
        one, two = group.start(lambda: 1), group.start(lambda: 2)
        assert one.result() + two.result() == 3


def test_a_failure_in_the_block_stops_the_task() -> None:
    begun = threading.Event()
    ended: list[BaseException | None] = []

    def run() -> None:
        with TaskGroup(CancelToken()) as group:
            task = group.start(lambda: work_until_stopped(group.token, begun))
            task.add_done_callback(lambda future: ended.append(future.exception()))
            begun.wait(5)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run()
    assert isinstance(ended[0], JobCancelled)


def test_a_tasks_failure_stops_the_block_and_is_raised_instead_of_the_cancellation() -> None:
    def broken() -> None:
        raise ValueError("the task's")

    def run() -> None:
        with TaskGroup(CancelToken()) as group:
            group.start(broken)
            work_until_stopped(group.token, threading.Event())

    with pytest.raises(ValueError, match="the task's"):
        run()


def test_a_failure_that_nobody_asks_for_is_raised_too() -> None:
    def broken() -> None:
        raise ValueError("unasked")

    with pytest.raises(ValueError, match="unasked"), TaskGroup(CancelToken()) as group:
        group.start(broken)


def test_the_jobs_cancellation_reaches_every_task() -> None:
    job = CancelToken()
    begun = threading.Event()

    def run() -> None:
        with TaskGroup(job) as group:
            group.start(lambda: work_until_stopped(group.token, begun))
            begun.wait(5)
            job.cancel()

    with pytest.raises(JobCancelled):
        run()


def test_a_failure_here_does_not_cancel_the_job() -> None:
    job = CancelToken()
    with pytest.raises(ValueError, match="mine"), TaskGroup(job):
        raise ValueError("mine")
    assert not job.is_cancelled


def test_no_thread_is_left() -> None:
    with TaskGroup(CancelToken()) as group:
        group.start(lambda: None)
    assert not [t for t in threading.enumerate() if t.name.startswith("task")]

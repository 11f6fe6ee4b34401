"""TaskGroup of a job: the first failure stops the others and is the one that is told."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from bucketscribe_contract import Stage
from worker.cancel import CancelToken
from worker.errors import JobCancelled
from worker.execution import TaskGroup


def work_until_stopped(token: CancelToken) -> None:
    """Work, looking at the token."""
    while True:
        token.check(Stage.DIARIZE)
        threading.Event().wait(0.001)


def broken() -> None:
    raise ValueError("the task's")


def test_tasks_return_their_results_and_leave_no_thread() -> None:
    with TaskGroup(CancelToken()) as group:
        one, two = group.start(lambda: 1), group.start(lambda: 2)
        assert one.result() + two.result() == 3
    assert not [t for t in threading.enumerate() if t.name.startswith("task")]


def test_a_failure_in_the_block_stops_the_task_and_not_the_job() -> None:
    job, tasks = CancelToken(), list[Future[None]]()

    def run() -> None:
        with TaskGroup(job) as group:
            tasks.append(group.start(lambda: work_until_stopped(group.token)))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run()
    assert isinstance(tasks[0].exception(), JobCancelled)
    assert not job.is_cancelled


def test_a_tasks_failure_stops_the_block_and_is_raised_instead_of_the_cancellation() -> None:
    def run() -> None:
        with TaskGroup(CancelToken()) as group:
            group.start(broken)
            work_until_stopped(group.token)

    with pytest.raises(ValueError, match="the task's"):
        run()


def test_a_failure_that_nobody_asks_for_is_raised_too() -> None:
    with pytest.raises(ValueError, match="the task's"), TaskGroup(CancelToken()) as group:
        group.start(broken)


def test_the_jobs_cancellation_reaches_every_task() -> None:
    job = CancelToken()

    def run() -> None:
        with TaskGroup(job) as group:
            group.start(lambda: work_until_stopped(group.token))
            job.cancel()

    with pytest.raises(JobCancelled):
        run()

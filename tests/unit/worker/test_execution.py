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


def test_what_branches_give_is_given() -> None:
    with TaskGroup(CancelToken()) as branches:
        one, two = branches.start(lambda: 1), branches.start(lambda: 2)
        assert one.result() + two.result() == 3


def test_a_failure_in_the_block_stops_the_branch() -> None:
    begun = threading.Event()
    ended: list[BaseException | None] = []

    def run() -> None:
        with TaskGroup(CancelToken()) as branches:
            branch = branches.start(lambda: work_until_stopped(branches.token, begun))
            branch.add_done_callback(lambda future: ended.append(future.exception()))
            begun.wait(5)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        run()
    assert isinstance(ended[0], JobCancelled)


def test_a_branchs_failure_stops_the_block_and_is_told_instead_of_the_cancellation() -> None:
    def broken() -> None:
        raise ValueError("the branch's")

    def run() -> None:
        with TaskGroup(CancelToken()) as branches:
            branches.start(broken)
            work_until_stopped(branches.token, threading.Event())

    with pytest.raises(ValueError, match="the branch's"):
        run()


def test_a_failure_that_nobody_asks_for_is_told_too() -> None:
    def broken() -> None:
        raise ValueError("unasked")

    with pytest.raises(ValueError, match="unasked"), TaskGroup(CancelToken()) as branches:
        branches.start(broken)


def test_the_jobs_cancellation_reaches_every_branch() -> None:
    job = CancelToken()
    begun = threading.Event()

    def run() -> None:
        with TaskGroup(job) as branches:
            branches.start(lambda: work_until_stopped(branches.token, begun))
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
    with TaskGroup(CancelToken()) as branches:
        branches.start(lambda: None)
    assert not [t for t in threading.enumerate() if t.name.startswith("task")]

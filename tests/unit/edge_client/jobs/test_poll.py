"""Looking at a job: how often, and how long it still takes."""

import re
from collections.abc import Iterable
from typing import Any
from unittest.mock import Mock

import pytest

from bucketscribe_contract import JobState, JobStatus
from edge_client.errors import JobNotFound, Unreachable
from edge_client.jobs import poll
from tests.unit.edge_client.samples import NOW, FakeClock, job

QUEUED, RUNNING, DONE = (
    JobStatus.model_validate(job(state)) for state in ("IN_QUEUE", "IN_PROGRESS", "COMPLETED")
)


def at(percent: float, stage: str = "align") -> JobStatus:
    output = {"stage": stage, "percent": percent, "updated_at": NOW}
    return JobStatus.model_validate(job("IN_PROGRESS", output=output))


class Watcher:
    """A view that remembers; and looks until the end."""

    def __init__(self, clock: FakeClock) -> None:
        self.shown: list[poll.JobProgress] = []
        self.notes: list[str] = []
        self.clock, self.show, self.note = clock, self.shown.append, self.notes.append

    def watch(self, answers: Iterable[JobStatus | Exception]) -> JobStatus:
        """Poll until the end, and return its status."""
        ask = Mock(side_effect=answers)
        poller = poll.Poller(ask, self, self.clock, poll.PollInterval())
        while not isinstance(seen := poller.look(), JobStatus):
            self.clock.sleep(seen)
        return seen


@pytest.fixture
def watcher(clock: FakeClock) -> Watcher:
    return Watcher(clock)


def test_pauses_grow_from_one_to_ten_seconds_with_jitter_or_follow_the_estimated_end() -> None:
    for unit, low, high in ((0.0, 0.8, 8.0), (1.0, 1.2, 12.0)):
        interval = poll.PollInterval(random_unit=lambda at=unit: at)
        some = [interval.next_s() for _ in range(20)]
        assert (some[0], some[-1]) == (pytest.approx(low), pytest.approx(high))
        assert some == sorted(some)
    interval = poll.PollInterval(longest_s=30.0, random_unit=lambda: 0.5)
    assert [interval.next_s(left) for left in (600.0, 60.0, 8.0, 0.1)] == [30.0, 15.0, 2.0, 1.0]


def test_job_that_leaves_the_queue_is_looked_at_often_again_until_its_end(watcher: Watcher) -> None:
    assert watcher.watch([QUEUED] * 12 + [RUNNING] * 2 + [DONE]) is DONE
    states = [seen.state for seen in watcher.shown[11:]]
    assert states == ["queued", "running", "running", "completed"]
    assert max(watcher.clock.slept[:12]) > 5
    assert watcher.clock.slept[12] < 1.5
    assert len(watcher.clock.slept) == 14


@pytest.mark.parametrize("error", [JobNotFound("gone"), Unreachable("no answer")])
def test_what_is_no_answer_passes_through_and_the_next_look_goes_on(
    watcher: Watcher, error: Exception
) -> None:
    with pytest.raises(type(error)):
        watcher.watch([RUNNING, error])
    assert watcher.watch([DONE]) is DONE


@pytest.mark.parametrize(
    ("status", "progress"),
    [
        (at(41.5, "transcribe"), poll.JobProgress("running", "transcribe", 41.5)),
        (
            at(99).model_copy(update={"status": JobState.COMPLETED}),
            poll.JobProgress("completed", is_final=True),
        ),
        *(
            (RUNNING.model_copy(update={"output": foreign}), poll.JobProgress("running"))
            for foreign in (None, "text", {"stage": "new"}, {"percent": 5})
        ),
    ],
)
def test_progress_is_seen_and_hides_no_end(status: JobStatus, progress: poll.JobProgress) -> None:
    assert poll.progress_of(status) == progress


def test_what_is_shown_has_the_estimate(watcher: Watcher) -> None:
    watcher.watch([*map(at, (10, 20, 30, 40, 50, 60)), DONE])
    expected_s = 40 * sum(watcher.clock.slept[:5]) / 50
    assert watcher.shown[5].left_s == pytest.approx(expected_s, rel=0.5)


@pytest.mark.parametrize(
    ("looks", "left_s"),
    [
        ([(0, None)], None),
        ([(0, 10), (4, 40)], None),  # too soon
        ([(0, 10), (60, 11)], None),  # too little
        ([(t, t) for t in range(0, 70, 10)], pytest.approx(40)),
        ([(1000, 50), (1010, 60)], pytest.approx(40)),  # counted from when the waiter came
        ([(0, 0), (10, 10), (11, 55)], pytest.approx(9)),
        ([(0, 0), (50, 50), (60, 5)], None),  # another run
        ([(0, 0), (50, 50), (60, 5), (70, 15)], pytest.approx(85)),
        ([(0, 0), (50, 50), (51, 45)], pytest.approx(62, abs=1)),  # out of order, no other run
    ],
)
def test_estimated_time_left(looks: list[tuple[float, float | None]], left_s: float | None) -> None:
    estimate = poll.Estimate()
    assert [estimate.left_s(now_s, percent) for now_s, percent in looks][-1] == left_s


@pytest.mark.parametrize(
    ("workers", "said"),
    [
        ({"running": 1, "throttled": 3}, None),
        ({"throttled": 3, "initializing": 1}, "no GPU of the chosen kinds"),
        ({"unhealthy": 1, "running": 1}, "1 of the endpoint's workers unhealthy.*log"),
        ({"initializing": 1}, "are starting"),
        ({"idle": 0, "running": 0}, "max workers"),
        (None, "max workers"),
    ],
)
def test_reason_why_jobs_wait_is_what_health_shows(workers: Any, said: str | None) -> None:
    why = poll.why_jobs_wait({"workers": workers})
    assert why is None if said is None else re.search(said, why or "")

"""Waiting: the pace, the patience and the limit."""

import itertools
from collections.abc import Callable, Iterator

import pytest

from bucketscribe_contract import JobState, JobStatus
from edge_client.errors import JobNotFound, RateLimited, Unauthorized, Unreachable
from edge_client.jobs.poll import Finished, JobProgress, Poller, PollInterval, View, progress_of
from tests.unit.edge_client.samples import NOW, FakeClock, job

RUNNING = JobStatus.model_validate(job("IN_PROGRESS"))
DONE = JobStatus.model_validate(job("COMPLETED"))


class Watcher:
    """A view that remembers."""

    def __init__(self) -> None:
        self.shown: list[JobProgress] = []
        self.notes: list[str] = []

    def show(self, glimpse: JobProgress) -> None:
        """Remember."""
        self.shown.append(glimpse)

    def note(self, message: str) -> None:
        """Remember."""
        self.notes.append(message)


def asker(answers: Iterator[JobStatus | Exception]) -> Callable[[], JobStatus]:
    def ask() -> JobStatus:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return ask


def until_final(ask: Callable[[], JobStatus], view: View, clock: FakeClock) -> JobStatus | None:
    poll = Poller(ask, view, clock, PollInterval())
    while not isinstance(seen := poll.look(), Finished):
        clock.sleep(seen)
    return seen.status


@pytest.mark.parametrize(("unit", "low", "high"), [(0.0, 0.8, 8.0), (1.0, 1.2, 12.0)])
def test_pauses_grow_from_one_to_ten_seconds_with_jitter(
    unit: float, low: float, high: float
) -> None:
    pace = PollInterval(random_unit=lambda: unit)
    some = [pace.next_s() for _ in range(20)]
    assert some[0] == pytest.approx(low)
    assert some[-1] == pytest.approx(high)
    assert some == sorted(some)


def test_a_job_that_leaves_the_queue_is_looked_at_often_again(clock: FakeClock) -> None:
    queued = JobStatus.model_validate(job("IN_QUEUE"))
    until_final(asker(iter([queued] * 12 + [RUNNING] * 2 + [DONE])), Watcher(), clock)
    assert max(clock.slept[:12]) > 5
    assert clock.slept[12] < 1.5


def test_final_status_ends_the_waiting(clock: FakeClock) -> None:
    view = Watcher()
    ask = asker(iter([RUNNING, RUNNING, DONE]))
    assert until_final(ask, view, clock) is DONE
    assert [g.state for g in view.shown] == ["running", "running", "completed"]
    assert len(clock.slept) == 2


def test_forgotten_job_ends_the_waiting(clock: FakeClock) -> None:
    answers = [RUNNING, *[JobNotFound("")] * 3]
    assert until_final(asker(iter(answers)), Watcher(), clock) is None


def test_one_404_between_answers_is_not_forgetting(clock: FakeClock) -> None:
    gone = JobNotFound("")
    answers = iter([gone, gone, RUNNING, gone, gone, DONE])
    assert until_final(asker(answers), Watcher(), clock) is DONE


def test_estimate_is_shown_once_there_is_a_pace(clock: FakeClock) -> None:
    view = Watcher()
    steps = [
        JobStatus.model_validate(
            job("IN_PROGRESS", output={"stage": "align", "percent": p, "updated_at": NOW})
        )
        for p in (10, 20, 30, 40, 50, 60)
    ]
    until_final(asker(iter([*steps, DONE])), view, clock)
    assert view.shown[0].left_s is None
    left_s = view.shown[5].left_s
    assert left_s == pytest.approx(40 * sum(clock.slept[:5]) / 50, rel=0.5)


def test_looks_follow_the_estimated_end() -> None:
    pace = PollInterval(longest_s=30.0, random_unit=lambda: 0.5)
    assert [pace.next_s(left) for left in (600.0, 60.0, 8.0, 0.1)] == [30.0, 15.0, 2.0, 1.0]


def test_network_that_comes_back_is_forgiven_and_said_once(clock: FakeClock) -> None:
    away = [Unreachable("no answer")] * 5
    view = Watcher()
    assert until_final(asker(iter([RUNNING, *away, DONE])), view, clock) is DONE
    assert view.notes == ["no answer; the job goes on, trying again"]


def test_patience_begins_anew_whenever_runpod_answers(clock: FakeClock) -> None:
    away = [Unreachable("no answer")] * 25  # some four minutes
    view = Watcher()
    answers = iter([RUNNING, *away, RUNNING, *away, DONE])
    assert until_final(asker(answers), view, clock) is DONE
    assert len(view.notes) == 2


def test_network_that_stays_away_ends_the_waiting(clock: FakeClock) -> None:
    with pytest.raises(Unreachable):
        until_final(asker(itertools.repeat(Unreachable("x"))), Watcher(), clock)
    assert 300 < sum(clock.slept) < 330


def test_refused_key_ends_the_waiting_at_once(clock: FakeClock) -> None:
    with pytest.raises(Unauthorized):
        until_final(asker(iter([Unauthorized("")])), Watcher(), clock)
    assert clock.slept == []


def test_retry_after_is_slept(clock: FakeClock) -> None:
    until_final(asker(iter([RateLimited("slow down", 33.0), DONE])), Watcher(), clock)
    assert 33.0 in clock.slept


def test_progress_is_seen() -> None:
    output = {"stage": "transcribe", "percent": 41.5, "updated_at": "2026-11-01T12:00:00Z"}
    status = JobStatus.model_validate(job("IN_PROGRESS", output=output))
    assert progress_of(status) == JobProgress("running", "transcribe", 41.5)


@pytest.mark.parametrize("output", [None, "text", {"stage": "new"}, {"percent": 5}])
def test_foreign_progress_is_only_running(output: object) -> None:
    status = JobStatus.model_validate(job("IN_PROGRESS", output=output))
    assert progress_of(status) == JobProgress("running")


def test_late_progress_does_not_hide_the_end() -> None:
    late = {"stage": "deliver", "percent": 99, "updated_at": "2026-11-01T12:00:00Z"}
    status = JobStatus(id="job-1", status=JobState.COMPLETED, output=late)
    assert progress_of(status) == JobProgress("completed")

"""RunPod's rules, one at a time, on a clock that the test sets."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from bucketscribe_contract import ExecutionPolicy, JobState
from devstack.queue import FINAL_EVENTS, Job, JobNotFound, JobQueue, QueueConfig, Submission
from tests.fakes.queue_client import FakeClock


def submit(queue: JobQueue, timeout_s: int = 600, ttl_s: int = 86_400) -> Job:
    policy = ExecutionPolicy(execution_timeout_ms=timeout_s * 1000, ttl_ms=ttl_s * 1000)
    return queue.submit(Submission(input={"n": 1}, policy=policy))


def started(queue: JobQueue) -> Job:
    submit(queue)
    return queue.take("w")[0]


def kinds(queue: JobQueue, job: Job) -> list[str]:
    return [event.kind for event in queue.events.so_far() if event.job_id == job.job_id]


def is_gone(queue: JobQueue, job: Job) -> bool:
    with suppress(JobNotFound):
        return queue.find(job.job_id) is not job
    return True


def test_a_job_runs_through_its_states(queue: JobQueue, clock: FakeClock) -> None:
    job = submit(queue)
    assert job.to_wire() == {"id": job.job_id, "status": "IN_QUEUE"}
    clock.pass_s(1.5)
    assert queue.take("w") == [job]
    assert queue.progress("w", job.job_id, {"percent": 5})
    shown = {"id": job.job_id, "delayTime": 1500, "workerId": "w"}
    assert job.to_wire() == {**shown, "status": "IN_PROGRESS", "output": {"percent": 5}}
    clock.pass_s(0.25)
    assert queue.finish("w", job.job_id, {"text": "x"})
    ended = {"status": "COMPLETED", "executionTime": 250, "output": {"text": "x"}}
    assert job.to_wire() == {**shown, **ended}
    assert kinds(queue, job) == ["submitted", "taken", "progress", "completed"]


@pytest.mark.parametrize(
    ("output", "error", "shown"),
    [
        ({"partial": 1}, "bad", {"status": "FAILED", "error": "bad", "output": {"partial": 1}}),
        (None, {"code": "X"}, {"status": "FAILED", "error": '{"code": "X"}'}),
        (None, None, {"status": "COMPLETED"}),  # progress is no result (runpod-python#309)
    ],
)
def test_an_end_shows_what_the_sdk_posted(
    queue: JobQueue, output: Any, error: Any, shown: dict[str, Any]
) -> None:
    job = started(queue)
    queue.progress("w", job.job_id, 1)
    assert queue.finish("w", job.job_id, output, error)
    found = job.to_wire()
    assert {key: found.get(key) for key in ("status", "error", "output") if key in found} == shown


def test_execution_timeout_limits_the_run_alone_and_stops_the_worker(
    queue: JobQueue, clock: FakeClock
) -> None:
    job = submit(queue, timeout_s=5)
    clock.pass_s(100)
    queue.take("w")
    clock.pass_s(4.9)
    queue.ping("w")
    assert queue.find(job.job_id).state is JobState.IN_PROGRESS
    clock.pass_s(0.1)
    ended = {"status": "FAILED", "executionTime": 5000, "error": "executionTimeout exceeded"}
    assert ended.items() <= queue.find(job.job_id).to_wire().items()
    assert queue.collect_stops("w") == [job.job_id]
    assert queue.collect_stops("w") == []
    assert not queue.finish("w", job.job_id, "late")
    assert queue.health()["jobs"]["failed"] == 1


@pytest.mark.parametrize("state", ["waiting", "running", "gone back"])
def test_ttl_counts_from_submission_and_leaves_nothing_of_a_running_job(
    queue: JobQueue, clock: FakeClock, state: str
) -> None:
    job = submit(queue, timeout_s=15, ttl_s=15)
    clock.pass_s(3)
    if state != "waiting":
        queue.take("w")
    clock.pass_s(6)
    if state == "running":
        queue.ping("w")
    clock.pass_s(5.9)
    assert queue.find(job.job_id).retries == (state == "gone back")
    clock.pass_s(0.1)
    assert is_gone(queue, job) is (state == "running")
    assert queue.collect_stops("w") == ([] if state == "waiting" else [job.job_id])
    assert queue.take("w") == []
    assert kinds(queue, job)[-1] == ("expired" if state == "running" else "timed_out")
    if state != "running":  # nothing tells an untaken job from another but this
        assert job.to_wire().keys() & {"delayTime", "executionTime", "error"} == set()
        clock.pass_s(1800)
        assert is_gone(queue, job)


def test_a_result_is_kept_for_a_while_after_the_end(queue: JobQueue, clock: FakeClock) -> None:
    job = submit(queue)
    clock.pass_s(8)
    queue.cancel(job.job_id)
    clock.pass_s(1799.9)
    assert not is_gone(queue, job)
    clock.pass_s(0.1)
    assert is_gone(queue, job)


def test_a_silent_workers_job_goes_back_to_the_front(queue: JobQueue, clock: FakeClock) -> None:
    job = started(queue)
    submit(queue)
    queue.progress("w", job.job_id, "half")
    clock.pass_s(10)
    shown = {"id": job.job_id, "status": "IN_QUEUE", "retries": 1}
    assert queue.find(job.job_id).to_wire() == shown
    assert queue.health()["jobs"]["retried"] == 1
    assert queue.take("other") == [job]
    assert not queue.finish("w", job.job_id, "from the lost worker")
    assert queue.finish("other", job.job_id, "right")
    assert not queue.progress("other", job.job_id, "late")  # as the SDK's threads often post
    assert (job.state, job.output) == (JobState.COMPLETED, "right")
    happened = ["stop_sent", "requeued", "taken", "late_result", "completed", "late_progress"]
    assert kinds(queue, job)[-6:] == happened


def test_a_job_whose_worker_is_lost_twice_failed(queue: JobQueue, clock: FakeClock) -> None:
    job = started(queue)
    for _ in range(2):
        clock.pass_s(10)
        queue.take("other")
    ended = {"status": "FAILED", "error": "job timed out after 1 retries", "retries": 1}
    assert ended.items() <= queue.find(job.job_id).to_wire().items()


def test_a_worker_that_gets_its_lost_job_again_is_not_told_to_stop_it(
    queue: JobQueue, clock: FakeClock
) -> None:
    job = started(queue)
    clock.pass_s(10)
    assert queue.take("w") == [job]
    assert queue.collect_stops("w") == []


@pytest.mark.parametrize("before", ["waiting", "running", "finished"])
def test_cancelling_stops_the_worker_that_runs_the_job(queue: JobQueue, before: str) -> None:
    job = submit(queue) if before == "waiting" else started(queue)
    if before == "finished":
        queue.finish("w", job.job_id, "x")
    after = JobState.COMPLETED if before == "finished" else JobState.CANCELLED
    assert queue.cancel(job.job_id).state is after
    assert queue.take("w") == []
    assert queue.collect_stops("other") == []
    assert queue.collect_stops("w") == ([job.job_id] if before == "running" else [])
    assert not queue.finish("w", job.job_id, "too late")


def test_health_counts_workers_that_are_neither_silent_nor_retired(
    queue: JobQueue, clock: FakeClock
) -> None:
    queue.ping("silent")
    clock.pass_s(10)
    for output, error in [("x", None), (None, "bad")]:
        queue.finish("w", started(queue).job_id, output, error)
    started(queue)
    submit(queue)
    queue.ping("idle")
    queue.retire("retired")
    assert queue.take("retired") == []
    queue.ping("bad-1", is_healthy=False)
    queue.ping("bad-2")  # the same, restarted
    assert queue.health() == {
        "jobs": {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {
            **{"idle": 1, "ready": 1, "running": 1},
            **{"initializing": 0, "throttled": 0, "unhealthy": 1},
        },
    }
    queue.take("bad-2")
    assert queue.health()["workers"]["unhealthy"] == 0


def test_events_never_hold_inputs_outputs_or_urls(queue: JobQueue) -> None:
    """The log may be kept: presigned URLs are secrets."""
    secret = "hidden-value"
    job = queue.submit(Submission(input={"audio_url": secret}, webhook=f"https://h/{secret}"))
    queue.take("w")
    queue.progress("w", job.job_id, secret)
    queue.finish("w", job.job_id, secret, secret)
    assert secret not in repr([event.to_wire() for event in queue.events.so_far()])
    assert secret not in repr(job)


WHAT = ["submit", "take", "ping", "finish", "cancel", "wait"]
SECONDS = st.sampled_from([0.1, 4, 9.9, 10, 35, 100])
STEPS = st.tuples(st.sampled_from(WHAT), st.sampled_from("ab"), st.integers(0, 4), SECONDS)


@given(st.lists(STEPS, max_size=40))
@settings(max_examples=150, deadline=None)
def test_in_any_order_no_job_is_lost_or_held_twice(
    steps: list[tuple[str, str, int, float]],
) -> None:
    """The event log is the second opinion on what clients, workers and time did."""
    clock, jobs, ends = FakeClock(), list[Job](), dict[str, object]()
    queue = JobQueue(QueueConfig(retention_s=40), clock)
    for what, worker, index, seconds in [("submit", "", 0, 0), *steps]:
        job = jobs[index % len(jobs)] if jobs else Job("", Submission(input={}), 0)
        is_held = job.state is JobState.IN_PROGRESS and job.worker_id == worker
        with suppress(JobNotFound):
            match what:
                case "submit":
                    jobs.append(submit(queue, 5 + 6 * index, 10 + 12 * index))
                case "take":
                    assert all(taken.worker_id == worker for taken in queue.take(worker, index))
                case "ping":
                    queue.ping(worker)
                case "finish":
                    error = "bad" if index % 2 else None
                    assert queue.finish(worker, queue.find(job.job_id).job_id, 1, error) is is_held
                case "cancel":
                    assert queue.cancel(job.job_id).state.is_final
                case "wait":
                    clock.pass_s(seconds)
        check_consistency(queue, jobs, ends)


def check_consistency(queue: JobQueue, jobs: list[Job], ends: dict[str, object]) -> None:
    """Each job is in one place or an event says where it went; what ended stays as it ended."""
    for _ in range(3):  # each applies one timeout a job
        queue.tick()
    counts, states = queue.health()["jobs"], Counter[JobState]()
    for job in jobs:
        happened = Counter(kinds(queue, job))
        gone = sum(happened[kind] for kind in ("expired", "forgotten"))
        assert gone == is_gone(queue, job)
        assert happened["taken"] <= 1 + happened["requeued"]
        assert sum(happened[kind] for kind in FINAL_EVENTS.values()) <= 1
        states[job.state] += not gone
        if job.state.is_final:
            end = job.state, job.output, job.error
            assert ends.setdefault(job.job_id, end) == end
    assert counts["inQueue"] == states[JobState.IN_QUEUE]
    assert counts["inProgress"] == states[JobState.IN_PROGRESS]

"""RunPod's rules, one at a time, on a clock that is wound by hand."""

from __future__ import annotations

import re

import pytest

from bucketscribe_contract import ExecutionPolicy, JobState
from devstack.events import EventKind
from devstack.queue import Job, JobNotFound, JobQueue, NotRetryable, Submission
from tests.unit.devstack.conftest import FakeClock

UUID = "[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}"


def submit(queue: JobQueue, timeout_s: int = 600, ttl_s: int = 86_400) -> Job:
    """Queue a job with this policy."""
    policy = ExecutionPolicy(execution_timeout_ms=timeout_s * 1000, ttl_ms=ttl_s * 1000)
    return queue.submit(Submission({"n": 1}, policy))


def started(queue: JobQueue, worker_id: str = "w", timeout_s: int = 600) -> Job:
    """Queue a job and have the worker take it."""
    submit(queue, timeout_s)
    return queue.take(worker_id)[0]


def kinds(queue: JobQueue, job: Job) -> list[str]:
    """Return what happened to the job."""
    return [event.kind for event in queue.events.since() if event.job_id == job.job_id]


def test_ids_look_like_runpods(queue: JobQueue) -> None:
    """Clients may tell the two kinds of job apart by their ids."""
    assert re.fullmatch(f"{UUID}-u1", submit(queue).job_id)
    assert re.fullmatch(f"sync-{UUID}", queue.submit(Submission({}, is_sync=True)).job_id)


def test_a_job_runs_through_its_states(queue: JobQueue, clock: FakeClock) -> None:
    """Waiting, running and done, `/status` shows what RunPod shows."""
    job = submit(queue)
    assert job.to_wire() == {"id": job.job_id, "status": "IN_QUEUE"}
    clock.pass_s(1.5)
    assert queue.take("w") == [job]
    assert queue.progress("w", job.job_id, {"percent": 5})
    shown = {"id": job.job_id, "delayTime": 1500, "workerId": "w"}
    assert job.to_wire() == {**shown, "status": "IN_PROGRESS", "output": {"percent": 5}}
    clock.pass_s(0.25)
    assert queue.finish("w", job.job_id, {"text": "x"})
    assert job.to_wire() == {
        **shown,
        "status": "COMPLETED",
        "executionTime": 250,
        "output": {"text": "x"},
    }
    assert kinds(queue, job) == ["submitted", "taken", "progress", "completed"]


def test_a_job_with_an_error_failed_and_keeps_its_output(queue: JobQueue) -> None:
    """The SDK posts both for `{"error": …, "partial": …}`."""
    job = started(queue)
    queue.finish("w", job.job_id, {"partial": 1}, "bad")
    assert (job.state, job.error, job.output) == (JobState.FAILED, "bad", {"partial": 1})


def test_an_error_that_is_no_text_becomes_json(queue: JobQueue) -> None:
    """Clients read `error` as text."""
    job = started(queue)
    queue.finish("w", job.job_id, error={"code": "X"})
    assert job.error == '{"code": "X"}'


def test_completed_without_output_shows_none_and_no_progress(queue: JobQueue) -> None:
    """Progress is no result (runpod-python#309 shows such jobs exist)."""
    job = started(queue)
    queue.progress("w", job.job_id, 1)
    queue.finish("w", job.job_id)
    assert "output" not in job.to_wire()


def test_jobs_are_taken_oldest_first_and_never_twice(queue: JobQueue) -> None:
    """A job goes to one worker."""
    jobs = [submit(queue) for _ in range(5)]
    assert queue.take("a", 2) == jobs[:2]
    assert queue.take("b", 9) == jobs[2:]
    assert queue.take("c") == []


def test_execution_timeout_ends_the_job_and_stops_its_worker(
    queue: JobQueue, clock: FakeClock
) -> None:
    """The worker learns it once, and its result no longer counts."""
    job = started(queue, timeout_s=5)
    clock.pass_s(4.9)
    queue.ping("w")
    assert queue.find(job.job_id).state is JobState.IN_PROGRESS
    clock.pass_s(0.1)
    assert queue.find(job.job_id).state is JobState.TIMED_OUT
    assert queue.collect_stops("w") == [job.job_id]
    assert queue.collect_stops("w") == []
    assert not queue.finish("w", job.job_id, "late")


def test_execution_timeout_does_not_count_the_time_in_the_queue(
    queue: JobQueue, clock: FakeClock
) -> None:
    """Only the run is limited by executionTimeout."""
    job = submit(queue, timeout_s=5)
    clock.pass_s(100)
    queue.take("w")
    clock.pass_s(4)
    assert queue.find(job.job_id).state is JobState.IN_PROGRESS


@pytest.mark.parametrize("is_running", [False, True])
def test_ttl_counts_from_submission_and_leaves_nothing(
    queue: JobQueue, clock: FakeClock, is_running: bool
) -> None:
    """Waiting or running, the job is gone, and its worker stops."""
    job = submit(queue, timeout_s=10, ttl_s=10)
    clock.pass_s(3)
    if is_running:
        queue.take("w")
    clock.pass_s(6.9)
    queue.ping("w")
    queue.find(job.job_id)
    clock.pass_s(0.1)
    with pytest.raises(JobNotFound):
        queue.find(job.job_id)
    assert queue.collect_stops("w") == ([job.job_id] if is_running else [])
    assert queue.take("w") == []
    assert kinds(queue, job)[-1] == "expired"


def test_a_result_is_kept_for_thirty_minutes(queue: JobQueue, clock: FakeClock) -> None:
    """Counted from the end of the job, not from its submission."""
    job = started(queue)
    clock.pass_s(8)
    queue.finish("w", job.job_id, "x")
    clock.pass_s(1799.9)
    assert queue.find(job.job_id) is job
    clock.pass_s(0.1)
    with pytest.raises(JobNotFound):
        queue.find(job.job_id)


def test_a_sync_result_is_kept_for_one_minute(queue: JobQueue, clock: FakeClock) -> None:
    """RunPod keeps /runsync results for less long."""
    job = queue.submit(Submission({}, is_sync=True))
    queue.cancel(job.job_id)
    clock.pass_s(59.9)
    assert queue.find(job.job_id) is job
    clock.pass_s(0.1)
    with pytest.raises(JobNotFound):
        queue.find(job.job_id)


def test_a_silent_workers_job_goes_back_to_the_front(queue: JobQueue, clock: FakeClock) -> None:
    """Another worker does it; what the lost one still says is ignored."""
    job = started(queue)
    submit(queue)
    queue.progress("w", job.job_id, "half")
    clock.pass_s(10)
    assert queue.find(job.job_id).to_wire() == {
        "id": job.job_id,
        "status": "IN_QUEUE",
        "retries": 1,
    }
    assert queue.health()["jobs"]["retried"] == 1
    assert queue.take("other") == [job]
    assert not queue.finish("w", job.job_id, "from the lost worker")
    assert queue.finish("other", job.job_id, "right")
    assert job.output == "right"
    assert kinds(queue, job)[-5:] == ["stop_sent", "requeued", "taken", "late_result", "completed"]


def test_a_pinging_worker_keeps_its_job(queue: JobQueue, clock: FakeClock) -> None:
    """A long job is not taken from a worker that lives."""
    job = started(queue)
    for _ in range(50):
        clock.pass_s(9.9)
        queue.ping("w")
    assert queue.find(job.job_id).worker_id == "w"


def test_a_worker_that_gets_its_lost_job_again_is_not_told_to_stop_it(
    queue: JobQueue, clock: FakeClock
) -> None:
    """A stop meant for the first run would kill the second."""
    job = started(queue)
    clock.pass_s(10)
    assert queue.take("w") == [job]
    assert queue.collect_stops("w") == []


def test_the_ttl_goes_on_when_a_job_goes_back(queue: JobQueue, clock: FakeClock) -> None:
    """A job that kills its workers ends some day."""
    job = submit(queue, timeout_s=15, ttl_s=15)
    queue.take("w")
    clock.pass_s(10)
    queue.find(job.job_id)
    clock.pass_s(5)
    with pytest.raises(JobNotFound):
        queue.find(job.job_id)


def test_late_progress_is_ignored(queue: JobQueue) -> None:
    """The SDK's progress threads often post after the result."""
    job = started(queue)
    queue.finish("w", job.job_id, "final")
    assert not queue.progress("w", job.job_id, "late")
    assert (job.state, job.output) == (JobState.COMPLETED, "final")
    assert kinds(queue, job)[-1] == "late_progress"


def test_a_second_result_is_ignored(queue: JobQueue) -> None:
    """The first result stands."""
    job = started(queue)
    queue.finish("w", job.job_id, "first")
    assert not queue.finish("w", job.job_id, error="second")
    assert (job.state, job.output) == (JobState.COMPLETED, "first")


def test_cancelling_a_waiting_job_needs_no_worker(queue: JobQueue) -> None:
    """Nobody gets it, nobody is told."""
    job = submit(queue)
    assert queue.cancel(job.job_id).state is JobState.CANCELLED
    assert queue.take("w") == []
    assert EventKind.STOP_SENT not in kinds(queue, job)


def test_cancelling_a_running_job_stops_its_worker(queue: JobQueue) -> None:
    """Only the worker that runs it is told."""
    job = started(queue)
    assert queue.cancel(job.job_id).state is JobState.CANCELLED
    assert queue.collect_stops("other") == []
    assert queue.collect_stops("w") == [job.job_id]
    assert not queue.finish("w", job.job_id, "too late")


def test_cancelling_a_finished_job_changes_nothing(queue: JobQueue) -> None:
    """A result is not lost to a late cancel."""
    job = started(queue)
    queue.finish("w", job.job_id, "x")
    assert queue.cancel(job.job_id).state is JobState.COMPLETED
    assert queue.collect_stops("w") == []


def test_purge_drops_waiting_jobs_only(queue: JobQueue) -> None:
    """RunPod's purge leaves running jobs alone."""
    running = started(queue)
    waiting = [submit(queue), submit(queue)]
    assert queue.purge() == 2
    assert queue.find(running.job_id).state is JobState.IN_PROGRESS
    for job in waiting:
        with pytest.raises(JobNotFound):
            queue.find(job.job_id)
    assert queue.take("w") == []


def test_a_failed_job_can_be_retried_with_a_new_ttl(queue: JobQueue, clock: FakeClock) -> None:
    """A retry is a new submission under the old id."""
    job = submit(queue, timeout_s=10, ttl_s=10)
    queue.take("w")
    queue.finish("w", job.job_id, error="bad")
    clock.pass_s(9)
    assert queue.retry(job.job_id).state is JobState.IN_QUEUE
    clock.pass_s(9)
    assert queue.take("w") == [job]
    assert job.to_wire()["delayTime"] == 9000
    assert "error" not in job.to_wire()


def test_a_timed_out_job_can_be_retried(queue: JobQueue, clock: FakeClock) -> None:
    """RunPod's /retry takes FAILED and TIMED_OUT."""
    job = started(queue, timeout_s=5)
    clock.pass_s(5)
    assert queue.retry(job.job_id).state is JobState.IN_QUEUE


@pytest.mark.parametrize("end", ["waiting", "running", "cancelled", "completed"])
def test_other_jobs_cannot_be_retried(queue: JobQueue, end: str) -> None:
    """The refusal names the state."""
    job = submit(queue)
    if end in ("running", "completed"):
        queue.take("w")
    if end == "completed":
        queue.finish("w", job.job_id, "x")
    if end == "cancelled":
        queue.cancel(job.job_id)
    with pytest.raises(NotRetryable, match=job.state.value):
        queue.retry(job.job_id)


def test_a_retired_worker_gets_no_more_jobs(queue: JobQueue) -> None:
    """It is about to be started afresh."""
    job = submit(queue)
    queue.retire("w")
    assert queue.is_retired("w")
    assert queue.take("w") == []
    assert queue.take("next") == [job]


def test_health_counts_jobs_and_workers(queue: JobQueue, clock: FakeClock) -> None:
    """Silent and retired workers do not count."""
    queue.ping("silent")
    clock.pass_s(10)
    for output, error in [("x", None), (None, "bad")]:
        queue.finish("w", started(queue).job_id, output, error)
    started(queue)
    submit(queue)
    queue.ping("idle")
    queue.ping("retired")
    queue.retire("retired")
    assert queue.health() == {
        "jobs": {"completed": 1, "failed": 1, "inProgress": 1, "inQueue": 1, "retried": 0},
        "workers": {"idle": 1, "running": 1},
    }


def test_a_timed_out_job_counts_as_failed(queue: JobQueue, clock: FakeClock) -> None:
    """RunPod's /health has no count of its own for these."""
    started(queue, timeout_s=5)
    clock.pass_s(5)
    assert queue.health()["jobs"]["failed"] == 1


def test_unknown_jobs_are_not_found(queue: JobQueue) -> None:
    """A client gets 404, a worker is ignored."""
    for call in (queue.find, queue.cancel, queue.retry):
        with pytest.raises(JobNotFound):
            call("nonesuch")
    assert not queue.finish("w", "nonesuch", "x")


def test_events_never_hold_inputs_outputs_or_urls(queue: JobQueue) -> None:
    """The log may be kept: presigned URLs are secrets."""
    secret = "hidden-value"
    job = queue.submit(Submission({"audio_url": secret}, webhook=f"https://h/{secret}"))
    queue.take("w")
    queue.progress("w", job.job_id, secret)
    queue.finish("w", job.job_id, secret, secret)
    assert secret not in repr([event.to_wire() for event in queue.events.since()])
    assert secret not in repr(job)

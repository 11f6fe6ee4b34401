"""Whatever clients, workers and time do, in any order, no job is lost or held twice."""

from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from bucketscribe_contract import ExecutionPolicy, JobState
from devstack.events import EventKind
from devstack.queue import JobNotFound, JobQueue, NotRetryable, QueueConfig, Submission
from tests.fakes.queue_client import FakeClock

WORKERS = st.sampled_from(["a", "b", "c"])
GONE = {EventKind.EXPIRED, EventKind.FORGOTTEN, EventKind.PURGED}
ENDED = {EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED, EventKind.TIMED_OUT}
BACK = {EventKind.REQUEUED, EventKind.RETRIED}


class AnyOrder(RuleBasedStateMachine):
    """Random calls, with the event log as the second opinion."""

    jobs = Bundle("jobs")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.queue = JobQueue(QueueConfig(retention_s=40), self.clock)
        self.submitted: list[str] = []
        self.finals: dict[str, tuple[JobState, object]] = {}

    @rule(target=jobs, timeout_s=st.integers(5, 30), more_s=st.integers(5, 60))
    def submit(self, timeout_s: int, more_s: int) -> str:
        """A client submits a job."""
        policy = ExecutionPolicy(
            execution_timeout_ms=timeout_s * 1000, ttl_ms=(timeout_s + more_s) * 1000
        )
        job = self.queue.submit(Submission({}, policy))
        self.submitted.append(job.job_id)
        return job.job_id

    @rule(worker=WORKERS, count=st.integers(1, 3))
    def take(self, worker: str, count: int) -> None:
        """A worker takes jobs."""
        taken = self.queue.take(worker, count)
        assert len(taken) <= count
        assert all(self._worker(job.job_id) == worker for job in taken)

    @rule(worker=WORKERS)
    def ping(self, worker: str) -> None:
        """A worker says that it lives."""
        self.queue.ping(worker)

    @rule(worker=WORKERS, job_id=jobs, error=st.sampled_from([None, "bad"]))
    def finish(self, worker: str, job_id: str, error: str | None) -> None:
        """A result counts exactly if the worker holds the job."""
        held = self._state(job_id) is JobState.IN_PROGRESS and self._worker(job_id) == worker
        assert self.queue.finish(worker, job_id, object(), error) is held

    @rule(worker=WORKERS, job_id=jobs)
    def progress(self, worker: str, job_id: str) -> None:
        """A worker reports progress."""
        self.queue.progress(worker, job_id, "progress")

    @rule(job_id=jobs)
    def cancel(self, job_id: str) -> None:
        """A cancelled job has ended, unless it was gone."""
        try:
            assert self.queue.cancel(job_id).state.is_final
        except JobNotFound:
            assert self._last(job_id) in GONE

    @rule(job_id=jobs)
    def retry(self, job_id: str) -> None:
        """Only what failed or timed out goes back, with its end forgotten."""
        before = self._state(job_id)
        if before in (JobState.FAILED, JobState.TIMED_OUT):
            assert self.queue.retry(job_id).state is JobState.IN_QUEUE
            del self.finals[job_id]
        else:
            with pytest.raises(NotRetryable if before else JobNotFound):
                self.queue.retry(job_id)

    @rule()
    def purge(self) -> None:
        """A client drops what waits."""
        self.queue.purge()

    @rule(seconds=st.sampled_from([0.1, 1, 4, 9.9, 10, 35, 100]))
    def pass_time(self, seconds: float) -> None:
        """Time passes."""
        self.clock.pass_s(seconds)

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        """Each job is found in one state, or an event says why it is gone."""
        health = self.queue.health()["jobs"]
        states = Counter(state for job_id in self.submitted if (state := self._state(job_id)))
        assert health["inQueue"] == states[JobState.IN_QUEUE]
        assert health["inProgress"] == states[JobState.IN_PROGRESS]
        for job_id in self.submitted:
            assert (self._state(job_id) is None) is (self._last(job_id) in GONE)

    @invariant()
    def a_final_state_never_changes(self) -> None:
        """Neither the state nor the result of an ended job changes."""
        for job_id in self.submitted:
            state = self._state(job_id)
            if state is not None and state.is_final:
                now = (state, self.queue.find(job_id).output)
                assert self.finals.setdefault(job_id, now) == now

    @invariant()
    def each_run_begins_and_ends_once(self) -> None:
        """Every further run has an event that explains it."""
        for job_id in self.submitted:
            kinds = Counter(e.kind for e in self.queue.events.since() if e.job_id == job_id)
            starts = 1 + sum(kinds[kind] for kind in BACK)
            assert kinds[EventKind.TAKEN] <= starts
            assert sum(kinds[kind] for kind in ENDED) <= 1 + kinds[EventKind.RETRIED]
            assert sum(kinds[kind] for kind in GONE) <= 1

    def _state(self, job_id: str) -> JobState | None:
        try:
            return self.queue.find(job_id).state
        except JobNotFound:
            return None

    def _worker(self, job_id: str) -> str | None:
        return self.queue.find(job_id).worker_id

    def _last(self, job_id: str) -> EventKind:
        late = {EventKind.LATE_PROGRESS, EventKind.LATE_RESULT}
        events = [e.kind for e in self.queue.events.since() if e.job_id == job_id]
        return [kind for kind in events if kind not in late][-1]


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)

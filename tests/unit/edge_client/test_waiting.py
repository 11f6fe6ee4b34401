"""Waiting for a session: whoever submitted it, whatever RunPod still knows."""

from datetime import timedelta

import pytest

from edge_client import api
from edge_client.errors import ClaimConflict, WaitTimedOut
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.retry_policy import Ending, Result
from edge_client.jobs.submit import State, Submission
from edge_client.services.edge import Edge
from tests.unit.edge_client.samples import NOW, SESSION, FakeClock, claim, job, transcript
from tests.unit.edge_client.servers import Reply, RunpodServer, S3Server


def follow(edge: Edge, timeout_s: float | None = None, **changes: object) -> Outcome:
    submitted = Submission(State.SUBMITTED, SESSION, claim(**changes))
    return api.wait(edge, submitted, timeout_s=timeout_s).outcome


def test_job_is_followed_to_its_transcript(
    edge: Edge, s3: S3Server, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")), Reply(job("COMPLETED")))
    s3.put(SESSION.result_key, transcript())
    assert follow(edge).result is Result.DONE
    assert len(clock.slept) == 1


def test_waiting_ends_when_the_job_must_be_dead(
    edge: Edge, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")))
    outcome = follow(edge, expires_at=NOW + timedelta(seconds=60))
    assert outcome.ending is Ending.EXPIRED
    assert 60 + 300 <= sum(clock.slept) < 60 + 300 + 12


def test_timeout_tells_how_to_resume(edge: Edge, runpod: RunpodServer) -> None:
    runpod.on("/status/job-1", Reply(job("IN_PROGRESS")))
    with pytest.raises(WaitTimedOut, match=f"edge-client wait {SESSION}` resumes"):
        follow(edge, timeout_s=30)


def test_done_session_of_an_old_claim_needs_no_runpod(
    edge: Edge, s3: S3Server, runpod: RunpodServer
) -> None:
    s3.put(SESSION.result_key, transcript())
    assert follow(edge, expires_at=NOW - timedelta(days=1)).result is Result.DONE
    assert runpod.calls == []


def test_old_claim_without_a_transcript_is_lost(edge: Edge) -> None:
    assert follow(edge, expires_at=NOW - timedelta(days=1)).result is Result.LOST


def test_session_without_a_claim_is_done_if_its_transcript_is_there(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.result_key, transcript())
    assert api.wait(edge, SESSION).outcome.result is Result.DONE


def test_nothing_to_wait_for_names_the_command(edge: Edge) -> None:
    with pytest.raises(ClaimConflict, match=f"edge-client submit {SESSION}"):
        api.wait(edge, SESSION)


def test_lost_answer_is_followed_in_s3(edge: Edge, s3: S3Server, runpod: RunpodServer) -> None:
    s3.put(SESSION.result_key, transcript())
    assert follow(edge, job_id=None).result is Result.DONE
    assert [call.path for call in runpod.calls] == ["/health"]


def test_lost_answer_whose_time_is_over_is_lost(edge: Edge, clock: FakeClock) -> None:
    outcome = follow(edge, job_id=None, expires_at=NOW + timedelta(seconds=10))
    assert outcome.result is Result.LOST


def test_lost_answer_within_its_time_is_only_not_yet(edge: Edge) -> None:
    with pytest.raises(WaitTimedOut):
        follow(edge, job_id=None, timeout_s=5)

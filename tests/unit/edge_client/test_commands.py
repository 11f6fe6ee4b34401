"""`status` and `cancel`: sessions and jobs, told apart."""

import pytest

from edge_client.commands import describe, job_to_cancel
from edge_client.errors import ClaimConflict, SessionNotFound
from edge_client.services.edge import Edge
from tests.fakes.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.jobs.scene import Scene
from tests.unit.edge_client.samples import SESSION, job

JOB = "3c8eaa87-22c0-47f7-b4ff-da4a0ffcb40e-u1"


def test_session_is_described_with_its_job(scene: Scene) -> None:
    scene.held()
    progress = {"stage": "align", "percent": 70, "updated_at": "2026-11-01T12:00:00Z"}
    scene.ends(job("IN_PROGRESS", output=progress))
    facts, text = describe(scene.edge, "s1")
    assert (facts["done"], facts["job_state"], facts["stage"]) == (False, "in_progress", "align")
    assert "job job-1: align 70 %" in text


def test_done_session_stays_described_when_runpod_has_forgotten(scene: Scene) -> None:
    scene.held()
    scene.store_result()
    facts, text = describe(scene.edge, SESSION.prefix)
    assert (facts["done"], facts["job_state"]) == (True, "forgotten")
    assert "done" in text


def test_session_that_was_never_submitted_has_nothing_to_cancel(scene: Scene) -> None:
    facts, text = describe(scene.edge, "s1")
    assert (facts["job_id"], facts["done"]) == (None, False)
    assert "no job was submitted" in text
    with pytest.raises(ClaimConflict, match="nothing to cancel"):
        job_to_cancel(scene.edge, "s1")
    assert scene.runpod.calls == []


def test_reported_failure_is_described_without_asking_runpod(scene: Scene) -> None:
    earlier = [{"request_id": "r0", "ended": "timed_out"}]
    scene.held(ended="AUDIO_UNREADABLE: no audio in it", earlier=earlier)
    facts, text = describe(scene.edge, "s1")
    assert (facts["job_state"], facts["submission"]) == ("ended", 2)
    assert "job job-1 ended: AUDIO_UNREADABLE: no audio in it" in text
    assert scene.runpod.calls == []


def test_job_is_described_without_s3(edge: Edge, s3: S3Server, runpod: RunpodServer) -> None:
    runpod.on(f"/status/{JOB}", Reply(job("FAILED", error="worker exited")))
    facts, text = describe(edge, JOB)
    assert facts["job_state"] == "failed"
    assert "worker exited" in text
    assert s3.calls == []


def test_bare_word_that_no_session_has_may_be_a_job(edge: Edge, runpod: RunpodServer) -> None:
    runpod.on("/status/sync-123", Reply(job("COMPLETED")))
    assert describe(edge, "sync-123")[0]["job_state"] == "completed"


@pytest.mark.parametrize("what", ["nothing", "no thing"])
def test_what_is_neither_is_said(edge: Edge, what: str) -> None:
    with pytest.raises(SessionNotFound, match=what):
        describe(edge, what)


def test_cancel_finds_the_job_of_a_session_unless_its_answer_was_lost(scene: Scene) -> None:
    scene.held()
    assert job_to_cancel(scene.edge, "s1") == "job-1"
    assert job_to_cancel(scene.edge, JOB) == JOB
    scene.held(job_id=None)
    assert describe(scene.edge, "s1")[0]["job_state"] == "unknown"
    with pytest.raises(ClaimConflict, match="answer was lost"):
        job_to_cancel(scene.edge, "s1")

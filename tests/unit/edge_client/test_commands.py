"""`status` and `cancel`: sessions and jobs, told apart."""

from typing import Any

import pytest

from edge_client.commands import describe, job_to_cancel
from edge_client.errors import ClaimConflict, SessionNotFound
from tests.fakes.servers import Reply
from tests.unit.edge_client.jobs.scene import GONE, Scene
from tests.unit.edge_client.samples import SESSION, job

JOB = "3c8eaa87-22c0-47f7-b4ff-da4a0ffcb40e-u1"
PROGRESS = {"stage": "align", "percent": 70, "updated_at": "2026-11-01T12:00:00Z"}
ENDED = {
    "ended": "AUDIO_UNREADABLE: no audio in it",
    "earlier": [{"request_id": "r0", "ended": "timed_out"}],
}


@pytest.mark.parametrize(
    ("held", "last", "state", "said"),
    [
        ({}, job("IN_PROGRESS", output=PROGRESS), "in_progress", "job job-1: align 70 %"),
        ({}, GONE, "forgotten", "job job-1: forgotten by RunPod"),
        (ENDED, None, "ended", "job job-1 ended: AUDIO_UNREADABLE: no audio in it"),
        ({"job_id": None}, None, "unknown", "answer not known"),
    ],
)
def test_session_is_described(scene: Scene, held: Any, last: Any, state: str, said: str) -> None:
    scene.held(**held)
    if last is not None:
        scene.ends(last)
    facts, *lines = describe(scene.edge, "s1")
    text = "\n".join(lines)
    assert (facts["done"], facts["job_state"]) == (False, state)
    assert facts["submission"] == (2 if held is ENDED else 1)
    assert said in text
    assert (scene.runpod.calls == []) is (last is None)
    scene.store_result()
    assert describe(scene.edge, SESSION.prefix)[0]["done"] is True


@pytest.mark.parametrize("name", [JOB, "sync-123"])  # a bare word that no session has may be one
def test_job_is_described(scene: Scene, name: str) -> None:
    scene.runpod.on(f"/status/{name}", Reply(job("FAILED", error="worker exited")))
    facts, text = describe(scene.edge, name)
    assert facts["job_state"] == "failed"
    assert "worker exited" in text
    assert (scene.s3.calls == []) is (name == JOB)


def test_only_a_job_that_is_known_can_be_cancelled(scene: Scene) -> None:
    for neither in ("nothing", "no thing"):
        with pytest.raises(SessionNotFound, match=neither):
            describe(scene.edge, neither)
    assert "no job was submitted" in describe(scene.edge, "s1")[-1]
    with pytest.raises(ClaimConflict, match="nothing to cancel"):
        job_to_cancel(scene.edge, "s1")
    scene.held()
    assert job_to_cancel(scene.edge, "s1") == "job-1"
    assert job_to_cancel(scene.edge, JOB) == JOB
    scene.held(job_id=None)
    with pytest.raises(ClaimConflict, match="answer was lost"):
        job_to_cancel(scene.edge, "s1")

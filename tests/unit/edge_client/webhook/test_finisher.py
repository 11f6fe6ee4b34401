"""What follows from a callback: what /status and S3 say, and nothing that the caller says."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client.errors import ClaimConflict, Unreachable
from edge_client.session import Session
from edge_client.webhook.finisher import LOOKS, Finisher
from tests.fakes.servers import Reply
from tests.unit.edge_client.jobs.scene import GONE, Scene, failed, undelivered
from tests.unit.edge_client.samples import NOW, SESSION, job, transcript

WEBHOOK = "https://h.example/hooks/0123456789abcdef/{session}"


class Called:
    """A receiver's finisher, called about the scene's session until there is nothing more to do."""

    def __init__(self, scene: Scene) -> None:
        scene.held(wanted={"wishes": {"language": "de"}, "webhook": WEBHOOK})
        self.scene, self.finisher = scene, Finisher(scene.edge)

    def once(self, session: Session = SESSION) -> float | None:
        """One call."""
        return self.finisher.finish(session)

    def go(self) -> list[float]:
        """Call until there is nothing more to do; return the pauses."""
        pauses = []
        while (pause_s := self.once()) is not None:
            pauses.append(pause_s)
            self.scene.clock.sleep(pause_s)
        return pauses

    @property
    def bodies(self) -> dict[str, bytes]:
        """What is in the bucket."""
        return {key: stored.body for key, stored in self.scene.s3.objects.items()}


@pytest.fixture
def called(scene: Scene, caplog: pytest.LogCaptureFixture) -> Called:
    caplog.set_level(logging.INFO, "edge_client.webhook")
    return Called(scene)


def test_status_that_lags_behind_its_callback_is_waited_for(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    called.scene.runpod.on("/status/job-1", Reply(job("IN_PROGRESS")), undelivered())
    assert len(called.go()) == 1
    assert called.bodies[SESSION.result_key] == transcript()
    assert f"{SESSION}: done" in caplog.text


@pytest.mark.parametrize(
    ("status", "has_transcript", "pauses"),
    [
        (job("COMPLETED"), True, 0),
        (GONE, True, 2),  # three looks prove an absence
        (job("IN_QUEUE"), False, LOOKS - 1),
        (job("IN_PROGRESS"), False, LOOKS - 1),
    ],
)
def test_session_that_is_done_or_whose_job_still_runs_costs_looks_and_changes_nothing(
    called: Called,
    status: Any,
    has_transcript: bool,
    pauses: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if has_transcript:
        called.scene.store_result()
    called.scene.ends(status)
    before = called.bodies
    assert len(called.go()) == pauses
    assert sum(called.scene.clock.slept) < 10
    assert (called.bodies, called.scene.posts) == (before, [])
    assert ("left alone" in caplog.text) is not has_transcript


def test_failed_job_is_submitted_again_after_its_pause_with_its_webhook(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    called.scene.ends(failed(FailureCode.STORAGE_UNAVAILABLE), job("IN_QUEUE"))
    pauses = called.go()
    assert [pause_s for pause_s in pauses if pause_s > 10] == [pytest.approx(30, rel=0.3)]
    (body,) = called.scene.posts
    assert body["webhook"].endswith("/users%2Fu1%2Faudio%2Fsessions%2Fs1")
    assert body["input"]["language"] == "de"
    stored = called.scene.stored()
    assert (stored.job_id, stored.wanted.webhook) == ("job-2", WEBHOOK)
    assert [attempt.ended for attempt in stored.earlier] == ["STORAGE_UNAVAILABLE"]
    assert "job job-2 replaced it" in caplog.text


def test_pause_before_a_submission_is_no_look(called: Called) -> None:
    runs = [Reply(job("IN_PROGRESS"))] * (LOOKS - 1)
    away = Reply(failed(FailureCode.STORAGE_UNAVAILABLE))
    called.scene.runpod.on("/status/job-1", *runs, away)
    called.go()
    assert called.scene.stored().job_id == "job-2"


def test_session_without_a_living_claim_is_noted_and_left_alone(
    called: Called, caplog: pytest.LogCaptureFixture
) -> None:
    called.scene.held(expires_at=NOW - timedelta(hours=1))
    called.scene.s3.put(Session("u1", "other").claim_key, b"not a claim")
    before = called.bodies
    for session in (SESSION, Session("u1", "unknown"), Session("u1", "other")):
        assert called.once(session) is None
    assert caplog.text.count("nothing was submitted, the call") == 2
    assert (called.scene.runpod.calls, called.bodies) == ([], before)


def test_job_of_another_endpoint_is_refused(called: Called) -> None:
    called.scene.held(endpoint_id="ep2")
    with pytest.raises(ClaimConflict, match="RUNPOD_ENDPOINT_ID=ep2"):
        called.once()


def test_callback_that_overtakes_the_claims_job_id_finds_it(called: Called) -> None:
    called.scene.held(job_id=None)
    called.scene.ends(undelivered())
    assert called.once() is not None
    called.scene.held(job_id="job-1")  # the box that submitted writes it now
    called.go()
    assert SESSION.result_key in called.bodies
    assert called.scene.posts == []


@pytest.mark.parametrize(("times", "waited_s"), [(1, 30), (3, 90)])
def test_storage_that_is_away_is_asked_again_so_often_and_no_more(
    called: Called, times: int, waited_s: float
) -> None:
    called.scene.ends(undelivered())
    left = iter(range(4 * times))  # one call's own tries
    called.scene.s3.refuse = lambda *_: (503, "x") if next(left, None) is not None else None
    if times == 3:  # RETRY_ATTEMPTS
        with pytest.raises(Unreachable):
            called.go()
    called.go()
    assert SESSION.result_key in called.bodies
    assert sum(called.scene.clock.slept) == pytest.approx(waited_s, rel=0.3)

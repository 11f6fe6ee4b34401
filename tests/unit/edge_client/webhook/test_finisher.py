"""What follows from a callback: what /status and S3 say, and nothing that the caller says."""

import logging
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client.errors import ClaimConflict, Unreachable
from edge_client.services.edge import Edge
from edge_client.services.s3 import Bucket
from edge_client.session import Session
from edge_client.webhook.finisher import LOOKS, Finisher
from tests.unit.edge_client.samples import NOW, SESSION, FakeClock, job, transcript
from tests.unit.edge_client.servers import Reply, RunpodServer, S3Server
from tests.unit.edge_client.test_campaign import Scene, failed, undelivered

WEBHOOK = "https://h.example/hooks/0123456789abcdef/{session}"


@pytest.fixture
def out(edge: Edge, s3: S3Server, runpod: RunpodServer) -> Scene:
    scene = Scene(edge, s3, runpod)
    scene.held(wanted={"wishes": {"language": "de"}, "webhook": WEBHOOK})
    return scene


@pytest.fixture
def finisher(edge: Edge) -> Finisher:
    return Finisher(edge)


@pytest.fixture(autouse=True)
def _say_all(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_client.webhook")


def snapshot(s3: S3Server) -> dict[str, bytes]:
    return {key: stored.body for key, stored in s3.objects.items()}


def go(finisher: Finisher, clock: FakeClock, session: Session = SESSION) -> list[float]:
    """Call until there is nothing more to do; return the pauses."""
    pauses = []
    while (pause_s := finisher.finish(session)) is not None:
        pauses.append(pause_s)
        clock.sleep(pause_s)
    return pauses


def test_transcript_in_the_answer_is_stored_once(
    out: Scene, finisher: Finisher, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    out.ends(undelivered())
    assert finisher.finish(SESSION) is None
    assert s3.objects[SESSION.result_key].body == transcript()
    assert f"{SESSION}: done" in caplog.text
    before, s3.calls = snapshot(s3), []
    assert finisher.finish(SESSION) is None  # called twice
    assert snapshot(s3) == before
    assert [method for method, _ in s3.calls if method == "PUT"] == []


def test_done_session_costs_a_look_and_changes_nothing(
    out: Scene, finisher: Finisher, s3: S3Server
) -> None:
    s3.put(SESSION.result_key, transcript())
    out.ends(job("COMPLETED"))
    before = snapshot(s3)
    assert finisher.finish(SESSION) is None
    assert (snapshot(s3), out.posts) == (before, [])


def test_callback_after_runpod_forgot_the_job_finds_the_transcript(
    out: Scene, finisher: Finisher, clock: FakeClock, s3: S3Server
) -> None:
    s3.put(SESSION.result_key, transcript())
    out.ends(Reply(status=404))
    before = snapshot(s3)
    assert len(go(finisher, clock)) == 2  # three looks prove an absence
    assert (snapshot(s3), out.posts) == (before, [])


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS"])
def test_job_that_still_runs_is_left_alone(
    out: Scene,
    finisher: Finisher,
    clock: FakeClock,
    s3: S3Server,
    state: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    out.ends(job(state))
    before = snapshot(s3)
    assert len(go(finisher, clock)) == LOOKS - 1
    assert sum(clock.slept) < 10
    assert (snapshot(s3), out.posts) == (before, [])
    assert "left alone" in caplog.text


def test_status_that_lags_behind_its_callback_is_waited_for(
    out: Scene, finisher: Finisher, clock: FakeClock, runpod: RunpodServer, s3: S3Server
) -> None:
    runpod.on("/status/job-1", Reply(job("IN_PROGRESS")), undelivered())
    assert len(go(finisher, clock)) == 1
    assert SESSION.result_key in s3.objects


def test_failed_job_is_submitted_again_after_its_pause_with_its_webhook(
    out: Scene, finisher: Finisher, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    out.ends(failed(FailureCode.STORAGE_UNAVAILABLE), job("IN_QUEUE"))
    pauses = go(finisher, clock)
    assert [pause_s for pause_s in pauses if pause_s > 10] == [pytest.approx(30, rel=0.3)]
    (body,) = out.posts
    assert body["webhook"].endswith("/users%2Fu1%2Faudio%2Fsessions%2Fs1")
    assert body["input"]["language"] == "de"
    stored = out.stored()
    assert (stored.job_id, stored.wanted.webhook) == ("job-2", WEBHOOK)
    assert [attempt.ended for attempt in stored.earlier] == ["STORAGE_UNAVAILABLE"]
    assert "job job-2 replaced it" in caplog.text


def test_pause_before_a_submission_is_no_look(
    out: Scene, finisher: Finisher, clock: FakeClock, runpod: RunpodServer
) -> None:
    runs = [Reply(job("IN_PROGRESS"))] * (LOOKS - 1)
    runpod.on("/status/job-1", *runs, Reply(failed(FailureCode.STORAGE_UNAVAILABLE)))
    go(finisher, clock)
    assert out.stored().job_id == "job-2"


def test_new_job_has_its_own_callback_and_count(
    out: Scene, finisher: Finisher, clock: FakeClock
) -> None:
    again = failed(FailureCode.OUT_OF_MEMORY)
    out.ends(again, again, again)
    for _ in range(5):  # three, and two more than RETRY_ATTEMPTS allows
        go(finisher, clock)
    assert len(out.posts) == 2
    assert (out.stored().ended or "").startswith("OUT_OF_MEMORY")


def test_failure_for_good_closes_the_claim_once(
    out: Scene, finisher: Finisher, s3: S3Server, caplog: pytest.LogCaptureFixture
) -> None:
    out.ends(failed(FailureCode.AUDIO_UNREADABLE))
    assert finisher.finish(SESSION) is None
    assert out.stored().ended == "AUDIO_UNREADABLE: it failed"
    assert caplog.records[-1].levelname == "WARNING"
    before = snapshot(s3)
    assert finisher.finish(SESSION) is None
    assert (snapshot(s3), out.posts) == (before, [])


def test_session_that_nobody_submitted_is_noted(
    finisher: Finisher,
    s3: S3Server,
    runpod: RunpodServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    s3.put(Session("u1", "other").claim_key, b"not a claim")
    for name in ("unknown", "other"):
        assert finisher.finish(Session("u1", name)) is None
    assert caplog.text.count("nothing was submitted, the call") == 2
    assert (runpod.calls, len(s3.objects)) == ([], 1)


def test_claim_whose_time_is_over_is_left_to_people(
    out: Scene, finisher: Finisher, runpod: RunpodServer, s3: S3Server
) -> None:
    out.held(expires_at=NOW - timedelta(hours=1))
    before = snapshot(s3)
    assert finisher.finish(SESSION) is None
    assert (runpod.calls, snapshot(s3)) == ([], before)


def test_job_of_another_endpoint_is_refused(out: Scene, finisher: Finisher) -> None:
    out.held(endpoint_id="ep2")
    with pytest.raises(ClaimConflict, match="RUNPOD_ENDPOINT_ID=ep2"):
        finisher.finish(SESSION)


def test_callback_that_overtakes_the_claims_job_id_finds_it(
    out: Scene, finisher: Finisher, clock: FakeClock, s3: S3Server
) -> None:
    out.held(job_id=None)
    out.ends(undelivered())
    assert finisher.finish(SESSION) is not None
    out.held(job_id="job-1")  # the box that submitted writes it now
    go(finisher, clock)
    assert SESSION.result_key in s3.objects
    assert out.posts == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_storage_that_is_away_is_asked_again_so_often_and_no_more(
    out: Scene,
    finisher: Finisher,
    clock: FakeClock,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    out.ends(undelivered())
    read, left = Bucket.read, [times]

    def away(bucket: Bucket, key: str) -> Any:
        if left[0]:
            left[0] -= 1
            raise Unreachable("S3 does not answer")
        return read(bucket, key)

    monkeypatch.setattr(Bucket, "read", away)
    if times == 3:  # RETRY_ATTEMPTS
        with pytest.raises(Unreachable):
            go(finisher, clock)
    assert (SESSION.result_key in s3.objects) is False
    go(finisher, clock)
    assert SESSION.result_key in s3.objects
    assert sum(clock.slept) == pytest.approx({1: 30, 2: 90, 3: 90}[times], rel=0.3)

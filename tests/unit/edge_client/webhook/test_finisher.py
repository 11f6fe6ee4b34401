"""What follows from a callback: what /status and S3 say, and nothing that the caller says."""

import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client.errors import Unreachable
from edge_client.session import Session
from edge_client.webhook import LOOKS, Finisher, adopt
from tests.fakes.servers import Reply
from tests.unit.edge_client.jobs.scene import GONE, Scene, failed, undelivered, upload_failed
from tests.unit.edge_client.samples import NOW, SESSION, job, summary, transcript

WEBHOOK = "https://h.example/hooks/0123456789abcdef/{session}"
Finish = Callable[..., list[float]]
Log = pytest.LogCaptureFixture


@pytest.fixture
def finish(scene: Scene, caplog: Log) -> Finish:
    """Call about a session, the scene's, until there is nothing more to do; return the pauses."""
    caplog.set_level(logging.INFO, "edge_client.webhook")
    scene.held(wanted={"options": {"language": "de"}, "webhook": WEBHOOK})
    finisher = Finisher(scene.edge)

    def finish(session: Session = SESSION) -> list[float]:
        pauses = []
        while (pause_s := finisher.finish(session)) is not None:
            pauses.append(pause_s)
            scene.clock.sleep(pause_s)
        return pauses

    return finish


def test_status_that_lags_is_waited_for(scene: Scene, finish: Finish, caplog: Log) -> None:
    scene.runpod.on("/status/job-1", Reply(job("IN_PROGRESS")), undelivered())
    assert len(finish()) == 1
    assert scene.s3.objects[SESSION.result_key].body == transcript()
    assert f"{SESSION}: done" in caplog.text
    scene.held(endpoint_id="ep2")
    assert finish() == []
    assert "RUNPOD_ENDPOINT_ID=ep2" in caplog.text


@pytest.mark.parametrize(
    ("status", "is_done", "pauses"),
    [
        (job("COMPLETED"), True, 0),
        (GONE, True, 0),
        (GONE, False, LOOKS - 1),  # it takes minutes to prove an absence
        (job("IN_QUEUE"), False, LOOKS - 1),
        (job("IN_PROGRESS"), False, LOOKS - 1),
    ],
)
def test_session_that_is_done_or_whose_job_still_runs_costs_looks_and_changes_nothing(
    scene: Scene, finish: Finish, status: Any, is_done: bool, pauses: int, caplog: Log
) -> None:
    if is_done:
        scene.store_result()
    scene.ends(status)
    before = dict(scene.s3.objects)
    assert len(finish()) == pauses
    assert sum(scene.clock.slept) < 10
    assert scene.stored().ended == ("done" if is_done else None)
    before[SESSION.claim_key] = scene.s3.objects[SESSION.claim_key]
    assert (scene.s3.objects, scene.posts) == (before, [])
    assert ("left alone" in caplog.text) is not is_done


def test_failed_job_is_submitted_again_after_its_pause_with_its_webhook(
    scene: Scene, finish: Finish, caplog: Log
) -> None:
    runs = [Reply(job("IN_PROGRESS"))] * (LOOKS - 1)  # the pause is no look
    away = Reply(failed(FailureCode.STORAGE_UNAVAILABLE))
    scene.runpod.on("/status/job-1", *runs, away)
    scene.runpod.on("/status/job-2", Reply(job("IN_QUEUE")))
    pauses = finish()
    assert [pause_s for pause_s in pauses if pause_s > 10] == [pytest.approx(30, rel=0.3)]
    (body,) = scene.posts
    assert body["webhook"].endswith("/users%2Fu1%2Faudio%2Fsessions%2Fs1")
    assert body["input"]["language"] == "de"
    stored = scene.stored()
    assert (stored.job_id, stored.wanted.webhook) == ("job-2", WEBHOOK)
    assert [attempt.ended for attempt in stored.earlier] == ["STORAGE_UNAVAILABLE"]
    assert "job job-2 replaced it" in caplog.text


def test_session_without_a_living_claim_is_left(scene: Scene, finish: Finish, caplog: Log) -> None:
    scene.held(submitted_at=NOW - timedelta(hours=9), expires_at=NOW - timedelta(hours=1))
    scene.s3.put(Session("u1", "other").claim_key, b"not a claim")
    before = dict(scene.s3.objects)
    for session in (SESSION, Session("u1", "unknown"), Session("u1", "other")):
        assert finish(session) == []
    assert caplog.text.count("nothing was submitted for") == 2
    assert "lost: the job expired" in caplog.text
    before[SESSION.claim_key] = scene.s3.objects[SESSION.claim_key]
    assert (scene.posts, scene.s3.objects) == ([], before)


def test_callback_that_overtakes_the_claims_job_id_finds_it(scene: Scene, finish: Finish) -> None:
    scene.held(job_id=None)
    scene.ends(undelivered())

    def submitter_goes_on(method: str, key: str) -> None:
        if scene.clock.slept and scene.stored().job_id is None:
            scene.s3.refuse = lambda *_: None
            scene.held(job_id="job-1")

    scene.s3.refuse = submitter_goes_on
    assert len(finish()) > 0
    assert SESSION.result_key in scene.s3.objects
    assert scene.posts == []


@pytest.mark.parametrize(
    ("told", "is_adopted"),
    [
        (Reply(job("COMPLETED", output=summary(request_id="r1"))), True),
        (Reply(job("COMPLETED", output=summary(request_id="another"))), False),
        (Reply(job("COMPLETED", output=summary(request_id=None))), False),
        (Reply(job("COMPLETED") | {"id": "other"}), False),
        (GONE, False),
    ],
)
def test_job_of_a_callback_fills_a_claim_without_one_if_runpod_proves_it(
    scene: Scene, finish: Finish, told: Reply, is_adopted: bool
) -> None:
    scene.held(job_id=None)
    scene.runpod.on("/status/job-7", told)
    with suppress(Unreachable):  # an answer about another job says nothing
        adopt(scene.edge, SESSION, "job-7")
    assert scene.stored().job_id == ("job-7" if is_adopted else None)
    scene.held(job_id="job-1")
    adopt(scene.edge, SESSION, "job-7")  # it has one
    assert scene.stored().job_id == "job-1"


def test_hint_brings_a_session_whose_submissions_answer_was_lost_to_its_end(
    scene: Scene, caplog: Log
) -> None:
    scene.held(job_id=None)
    scene.runpod.on("/health", Reply(status=503))
    away, ended = Reply(status=503), job("COMPLETED", output=upload_failed(request_id="r1"))
    scene.runpod.on("/status/job-7", *[away] * 4, Reply(ended))  # one call's own tries
    finisher = Finisher(scene.edge)
    finisher.hints[SESSION] = "job-7"
    while (pause_s := finisher.finish(SESSION)) is not None:
        scene.clock.sleep(pause_s)
    assert scene.s3.objects[SESSION.result_key].body == transcript()
    assert (finisher.hints, scene.posts, scene.stored().job_id) == ({}, [], "job-7")


@pytest.mark.parametrize(("away_s", "is_stored"), [(20, True), (301, False)])
def test_storage_that_is_away_is_borne_for_five_minutes(
    scene: Scene, finish: Finish, away_s: float, is_stored: bool
) -> None:
    scene.ends(undelivered())
    scene.s3.refuse = lambda *_: (503, "x") if scene.clock.monotonic() < away_s else None
    finish()
    assert (SESSION.result_key in scene.s3.objects) is is_stored
    assert sum(scene.clock.slept) == pytest.approx(min(away_s + 10, 300), abs=10)

"""Submitting: one claim, one POST, and nothing paid for twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from contract import JobInput
from edge_client import claim as claims
from edge_client import recording
from edge_client.edge import Edge
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    ClaimConflict,
    EdgeError,
    RateLimited,
    RecordingTooLong,
    Unauthorized,
)
from edge_client.standing import State, Submission
from edge_client.submission import Order, submit
from tests.edge_client.samples import NOW, SESSION, FakeClock, claim, job, transcript, wav
from tests.edge_client.servers import Reply, RunpodServer, S3Server


@pytest.fixture
def audio_etag(s3: S3Server) -> str:
    """The ETag of a recording of two seconds that is there."""
    s3.put(SESSION.audio_key, wav(2))
    return s3.objects[SESSION.audio_key].etag


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def go(edge: Edge, said: list[str]) -> Callable[..., Submission]:
    def run(**changes: Any) -> Submission:
        wishes = JobInput(audio_url="https://placeholder.invalid/", language="en", diarize=False)
        order = Order(wishes, webhook=None, force=False, say=said.append)
        return submit(edge, SESSION, replace(order, **changes))

    return run


Go = Callable[..., Submission]


def store_claim(edge: Edge, **changes: Any) -> None:
    claims.store(edge.bucket, SESSION, claim(**changes), None)


def test_new_session_is_claimed_then_posted_once(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    sub = go()
    assert (sub.state, sub.claim.job_id if sub.claim else "") == (State.SUBMITTED, "job-1")
    (call,) = runpod.calls
    stored = json.loads(s3.objects[SESSION.claim_key].body)
    assert stored["job_id"] == "job-1"
    assert stored["audio_etag"] == audio_etag
    assert stored["duration_s"] == 2.0
    assert stored["request_id"] == call.body["input"]["request_id"]
    assert call.body["input"]["language"] == "en"
    assert call.body["input"]["diarize"] is False
    assert call.body["policy"]["executionTimeout"] == 600_000
    ttl = timedelta(milliseconds=call.body["policy"]["ttl"])
    assert stored["expires_at"] == (NOW + ttl).isoformat().replace("+00:00", "Z")


def test_urls_outlive_the_ttl(go: Go, runpod: RunpodServer, audio_etag: str) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    go()
    body = runpod.calls[0].body
    for name in ("audio_url", "result_url"):
        expires_s = int(body["input"][name].split("X-Amz-Expires=")[1].split("&")[0])
        assert expires_s * 1000 > body["policy"]["ttl"]


def test_no_recording_is_said_before_anything_is_claimed(
    go: Go, s3: S3Server, runpod: RunpodServer
) -> None:
    with pytest.raises(AudioNotFound, match="no recording"):
        go()
    s3.put(SESSION.audio_key, b"")
    with pytest.raises(AudioNotFound, match="empty"):
        go()
    assert SESSION.claim_key not in s3.objects
    assert runpod.calls == []


def test_recording_that_no_url_outlives_is_not_claimed(
    go: Go, s3: S3Server, audio_etag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    week = recording.Length(604_800.0, recording.LengthSource.HEADER)
    monkeypatch.setattr(recording, "length_of", lambda head, size: week)
    with pytest.raises(RecordingTooLong):
        go()
    assert SESSION.claim_key not in s3.objects


def test_done_session_is_not_submitted(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    s3.put(SESSION.result_key, transcript())
    assert go().state is State.ALREADY_DONE
    assert runpod.calls == []


def test_force_submits_a_done_session(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    s3.put(SESSION.result_key, transcript())
    runpod.on("/run", Reply(job("IN_QUEUE")))
    assert go(force=True).state is State.SUBMITTED


@pytest.mark.parametrize("state", ["IN_QUEUE", "IN_PROGRESS", "RUNNING"])
def test_job_that_is_out_is_not_submitted_again(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, state: str
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(job(state)))
    sub = go()
    assert (sub.state, sub.claim) == (State.ALREADY_SUBMITTED, claim(audio_etag=audio_etag))
    assert runpod.count("/run") == 0


@pytest.mark.parametrize(
    "status",
    [
        Reply(job("FAILED", error="x")),
        Reply(job("CANCELLED")),
        Reply(job("TIMED_OUT")),
        Reply(job("COMPLETED")),
        Reply(status=404),
    ],
)
def test_job_that_ended_without_a_transcript_is_replaced(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, status: Reply, said: list[str]
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", status)
    runpod.on("/run", Reply(job("IN_QUEUE") | {"id": "job-2"}))
    sub = go()
    assert sub.claim is not None
    assert (sub.state, sub.claim.job_id) == (State.SUBMITTED, "job-2")
    assert "job job-1 ended" in said[0]


def test_stale_claim_is_replaced_without_asking(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str
) -> None:
    store_claim(edge, audio_etag=audio_etag, expires_at=NOW - timedelta(minutes=6))
    runpod.on("/run", Reply(job("IN_QUEUE")))
    assert go().state is State.SUBMITTED
    assert runpod.count("/status/job-1") == 0


def test_claim_without_a_job_is_left_alone(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str
) -> None:
    store_claim(edge, audio_etag=audio_etag, job_id=None)
    assert go().state is State.UNANSWERED
    assert runpod.calls == []


def test_job_on_another_endpoint_is_not_mistaken_for_a_lost_one(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str
) -> None:
    store_claim(edge, audio_etag=audio_etag, endpoint_id="ep2")
    with pytest.raises(ClaimConflict, match="RUNPOD_ENDPOINT_ID=ep2"):
        go()
    assert runpod.calls == []


def test_recording_replaced_while_its_job_runs_is_said(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str
) -> None:
    store_claim(edge, audio_etag='"of the first audio"')
    runpod.on("/status/job-1", Reply(job("IN_PROGRESS")))
    with pytest.raises(ClaimConflict, match="changed after"):
        go()


def test_force_cancels_the_job_it_replaces(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(job("IN_PROGRESS")))
    runpod.on("/cancel/job-1", Reply(job("CANCELLED")))
    runpod.on("/run", Reply(job("IN_QUEUE") | {"id": "job-2"}))
    assert go(force=True).state is State.SUBMITTED
    assert [call.path for call in runpod.calls] == ["/status/job-1", "/cancel/job-1", "/run"]
    assert said == ["cancelled job job-1"]


def test_foreign_claim_object_is_replaced_by_force_alone(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    s3.put(SESSION.claim_key, b"{}")
    runpod.on("/run", Reply(job("IN_QUEUE")))
    with pytest.raises(ClaimConflict, match="--force"):
        go()
    assert go(force=True).state is State.SUBMITTED


def test_lost_answer_keeps_the_claim_and_nobody_posts_again(
    go: Go, runpod: RunpodServer, audio_etag: str
) -> None:
    runpod.on("/run", Reply(drop=True))
    with pytest.raises(AnswerLost, match=f"edge-client wait {SESSION}"):
        go()
    assert go().state is State.UNANSWERED
    assert runpod.count("/run") == 1


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (429, RateLimited)])
def test_refused_submission_frees_the_session(
    go: Go, runpod: RunpodServer, audio_etag: str, status: int, error: type[EdgeError]
) -> None:
    runpod.on("/run", Reply(status=status), Reply(job("IN_QUEUE")))
    with pytest.raises(error):
        go()
    assert go().state is State.SUBMITTED


def test_other_box_that_claims_first_wins(
    go: Go, edge: Edge, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    def claimed_in_between(method: str, key: str) -> None:
        if method == "PUT" and key == SESSION.claim_key and key not in s3.objects:
            s3.put(key, claim(request_id="of the other box").model_dump_json().encode())

    s3.refuse = claimed_in_between
    with pytest.raises(ClaimConflict, match="another edge box"):
        go()
    assert runpod.calls == []


def test_job_id_is_not_lost_with_its_claim(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    puts: list[str] = []

    def second_put_fails(method: str, key: str) -> tuple[int, str] | None:
        puts.extend([key] if method == "PUT" else [])
        return (403, "AccessDenied") if len(puts) == 2 else None

    s3.refuse = second_put_fails
    sub = go()
    assert sub.claim is not None
    assert sub.claim.job_id == "job-1"
    assert "job job-1 is out, but its claim could not be updated" in said[0]


def test_temporary_keys_that_end_early_are_said_before_submitting(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    edge.__dict__["connection"] = replace(edge.connection, temporary=True, keys_end=NOW)
    go()
    assert "the AWS keys end at 2026-11-01 12:00:00 UTC" in said[0]


def test_edge_clocks_that_differ_do_not_steal(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, clock: FakeClock
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")))
    clock.sleep(2 * 3600 + 240)  # four minutes past the claim's end, by this box's clock
    assert go().state is State.ALREADY_SUBMITTED

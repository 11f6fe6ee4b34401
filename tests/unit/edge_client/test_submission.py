"""Submitting: one claim, one POST, and nothing paid for twice."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bucketscribe_contract import JobInput
from edge_client.clock import Clock
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    ClaimConflict,
    EdgeError,
    KeysEndTooSoon,
    RateLimited,
    RecordingTooLong,
    RequestRefused,
    Unauthorized,
)
from edge_client.jobs import claim as claims
from edge_client.jobs.submit import Order, State, Submission, submit
from edge_client.services import presign
from edge_client.services.edge import Edge
from tests.unit.edge_client.samples import NOW, SESSION, FakeClock, claim, job, transcript, wav
from tests.unit.edge_client.servers import Reply, RunpodServer, S3Server


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
    week = presign.Length(604_800.0, presign.LengthSource.HEADER)
    monkeypatch.setattr(presign, "recording_length", lambda head, size: week)
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


@pytest.mark.parametrize(
    ("status", "error", "posts"),
    [(401, Unauthorized, 1), (400, RequestRefused, 1), (429, RateLimited, 3)],
)
def test_refused_submission_frees_the_session(
    go: Go, runpod: RunpodServer, audio_etag: str, status: int, error: type[EdgeError], posts: int
) -> None:
    runpod.on("/run", *[Reply(status=status)] * posts, Reply(job("IN_QUEUE")))
    with pytest.raises(error):
        go()
    assert runpod.count("/run") == posts
    assert go().state is State.SUBMITTED


def test_busy_queue_is_asked_again_after_what_it_says(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str, clock: FakeClock, said: list[str]
) -> None:
    runpod.on(
        "/run",
        Reply(status=429, headers={"Retry-After": "77"}),
        Reply(status=429),
        Reply(job("IN_QUEUE")),
    )
    assert go().state is State.SUBMITTED
    assert clock.slept[0] == 77
    assert 48 <= clock.slept[1] <= 72  # twice 30 s, a fifth more or less
    assert "try 2 of 3 in 77 s" in said[0]
    assert json.loads(s3.objects[SESSION.claim_key].body)["job_id"] == "job-1"


def test_another_box_may_submit_while_this_one_pauses(
    go: Go, edge: Edge, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    theirs = claim(request_id="of the other box", audio_etag=audio_etag)

    def sleep(seconds: float) -> None:
        s3.put(SESSION.claim_key, theirs.model_dump_json().encode())

    edge.clock = Clock(now=edge.clock.now, monotonic=edge.clock.monotonic, sleep=sleep)
    runpod.on("/run", Reply(status=429), Reply(job("IN_QUEUE")))
    with pytest.raises(ClaimConflict):
        go()
    assert runpod.count("/run") == 1


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
    assert "job job-1 is in flight, but its claim could not be updated" in said[0]


def with_keys_for(edge: Edge, left_s: int) -> None:
    keys: Any = SimpleNamespace(
        get_frozen_credentials=lambda: None, _expiry_time=NOW + timedelta(seconds=left_s)
    )
    edge.__dict__["connection"] = replace(edge.connection, temporary=True, credentials=keys)


def test_keys_that_end_before_the_job_likely_does_are_refused_before_anything_is_claimed(
    go: Go, edge: Edge, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    with_keys_for(edge, 300)  # a recording of 2 s needs 301
    with pytest.raises(KeysEndTooSoon, match="end at 2026-11-01 12:05:00 UTC.*renew") as caught:
        go()
    assert caught.value.exit_code == 3
    assert SESSION.claim_key not in s3.objects
    assert runpod.calls == []


def test_keys_that_end_early_but_not_too_early_are_said_and_shorten_everything(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    with_keys_for(edge, 301)
    go()
    assert "the AWS keys end at 2026-11-01 12:05:01 UTC" in said[0]
    body = runpod.calls[0].body
    assert "X-Amz-Expires=301&" in body["input"]["result_url"]
    assert body["policy"] == {"executionTimeout": 301_000, "ttl": 301_000, "lowPriority": False}


def test_keys_that_outlive_the_urls_are_no_news(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    with_keys_for(edge, 8700)
    go()
    assert said == []


def test_progress_file_is_a_third_url(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    go(progress_file=True)
    sent = runpod.calls[0].body["input"]
    assert f"/{SESSION.progress_key}?" in sent["progress_url"]
    assert json.loads(s3.objects[SESSION.claim_key].body)["wanted"]["progress_file"] is True
    assert said == []


def test_request_over_two_kilobytes_is_said_and_sent(
    go: Go, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    wishes = JobInput(audio_url="https://placeholder.invalid/", initial_prompt="x" * 2000)
    assert go(wishes=wishes).state is State.SUBMITTED
    assert "over our 2 KB" in said[0]


def test_claim_keeps_what_was_asked_for_and_no_url(
    go: Go, s3: S3Server, runpod: RunpodServer, audio_etag: str
) -> None:
    runpod.on("/run", Reply(job("IN_QUEUE")))
    go(webhook="https://edge.example.com/h")
    stored = json.loads(s3.objects[SESSION.claim_key].body)
    assert stored["wanted"] == {
        "wishes": {"language": "en", "diarize": False},
        "webhook": "https://edge.example.com/h",
        "progress_file": False,
    }
    assert b"X-Amz" not in s3.objects[SESSION.claim_key].body


@pytest.mark.parametrize("status", [job("FAILED", error="x"), job("TIMED_OUT"), job("COMPLETED")])
def test_end_that_nobody_was_told_of_is_left_to_who_follows(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, status: dict[str, Any]
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(status))
    assert go(follow=True).state is State.ALREADY_SUBMITTED
    assert runpod.count("/run") == 0


def test_cancelled_job_is_replaced_by_who_follows_too(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(job("CANCELLED")))
    runpod.on("/run", Reply(job("IN_QUEUE") | {"id": "job-2"}))
    assert go(follow=True).state is State.SUBMITTED


def test_closed_claim_is_replaced_without_asking(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, said: list[str]
) -> None:
    store_claim(edge, audio_etag=audio_etag, ended="AUDIO_UNREADABLE: no audio in it")
    runpod.on("/run", Reply(job("IN_QUEUE") | {"id": "job-2"}))
    sub = go(follow=True)
    assert sub.claim is not None
    assert (sub.state, sub.claim.earlier) == (State.SUBMITTED, ())
    assert "job-1 ended: AUDIO_UNREADABLE" in said[0]


def test_edge_clocks_that_differ_do_not_steal(
    go: Go, edge: Edge, runpod: RunpodServer, audio_etag: str, clock: FakeClock
) -> None:
    store_claim(edge, audio_etag=audio_etag)
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")))
    clock.sleep(2 * 3600 + 240)  # four minutes past the claim's end, by this box's clock
    assert go().state is State.ALREADY_SUBMITTED

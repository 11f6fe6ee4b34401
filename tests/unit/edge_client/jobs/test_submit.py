"""Submissions: the claim first, the POST once, and no second one after a crash or beside a box."""

import json
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client import errors
from edge_client.api import State
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from tests.fakes.servers import Reply
from tests.unit.edge_client.jobs.scene import GONE, Scene, expires_s, failed
from tests.unit.edge_client.samples import NOW, SESSION, claim, job

HOUR = timedelta(hours=1)


def test_new_session_is_claimed_then_posted_once_in_six_calls(scene: Scene) -> None:
    sub = scene.submit()
    assert (sub.state, sub.claim) == (State.SUBMITTED, scene.stored())
    (body,) = scene.posts
    stored = scene.stored()
    assert (stored.job_id, stored.audio_etag, stored.duration_s) == ("job-1", scene.audio_etag, 2)
    assert stored.request_id == body["input"]["request_id"]
    assert (body["input"]["language"], body["input"]["diarize"]) == ("en", False)
    assert body["policy"]["executionTimeout"] == 600_000
    assert stored.expires_at == NOW + timedelta(milliseconds=body["policy"]["ttl"])
    for name in ("audio_url", "result_url"):
        assert expires_s(body["input"][name]) * 1000 > body["policy"]["ttl"]
    assert len(scene.s3.calls) + len(scene.runpod.calls) == 6


def test_done_session_needs_force_and_one_without_recording_is_refused(scene: Scene) -> None:
    recording = scene.s3.objects.pop(SESSION.audio_key)
    with pytest.raises(errors.AudioNotFound, match="no recording"):
        scene.submit()
    scene.s3.put(SESSION.audio_key, b"")
    with pytest.raises(errors.AudioNotFound, match="empty"):
        scene.submit()
    assert SESSION.claim_key not in scene.s3.objects
    scene.s3.put(SESSION.audio_key, recording.body)
    scene.store_result()
    assert scene.submit().state is State.ALREADY_DONE
    assert scene.runpod.calls == []
    assert scene.submit(force=True).state is State.SUBMITTED


@pytest.mark.parametrize(
    ("held", "end", "is_replaced"),
    [
        ({}, job("IN_PROGRESS"), False),
        ({"audio_etag": '"of the first audio"'}, job("IN_PROGRESS"), False),
        ({}, job("FAILED", error="x"), True),
        ({}, failed(FailureCode.AUDIO_UNREADABLE), True),  # the user says so
        ({}, failed(FailureCode.MODEL_UNAVAILABLE), True),
        ({}, job("CANCELLED"), True),
        ({}, GONE, False),  # a 404 proves nothing yet
        ({"submitted_at": NOW - timedelta(minutes=31)}, GONE, True),
        (
            {"submitted_at": NOW - timedelta(hours=9), "expires_at": NOW - timedelta(minutes=6)},
            None,
            True,
        ),
        ({"ended": "CANCELLED: x"}, None, True),
        ({"session": "users/u9/audio/sessions/s1"}, None, True),  # a copied folder's
    ],
)
def test_only_a_job_that_ended_without_a_transcript_is_replaced(
    scene: Scene, held: dict[str, Any], end: Any, is_replaced: bool
) -> None:
    scene.held(**held)
    if end is not None:  # else nobody asks
        scene.ends(end)
    state = scene.submit().state
    assert state is (State.SUBMITTED if is_replaced else State.ALREADY_SUBMITTED)
    assert scene.stored().job_id == ("job-2" if is_replaced else "job-1")
    assert len(scene.posts) == is_replaced
    assert scene.runpod.count("/status/job-1") == (end is not None)
    is_silent = held.keys() & {"expires_at", "session"}
    assert bool(scene.said) is (is_replaced and not is_silent)


def test_recording_is_submitted_three_times_whoever_does_it_and_force_starts_anew(
    scene: Scene,
) -> None:
    earlier = [{"request_id": name, "ended": "INTERNAL"} for name in ("r-1", "r-2")]
    scene.held(earlier=earlier, ended="INTERNAL: it failed")
    with pytest.raises(errors.ClaimConflict, match="submitted 3 times: --force"):
        scene.submit()
    scene.held(earlier=earlier[:1], ended="INTERNAL: it failed")
    assert scene.submit().state is State.SUBMITTED
    assert scene.stored().submissions == 3
    scene.held(earlier=earlier, ended="done")  # a success ends the count
    scene.s3.objects.pop(SESSION.result_key, None)
    assert scene.submit().state is State.SUBMITTED
    assert scene.stored().submissions == 1
    scene.held(earlier=earlier, ended="INTERNAL: it failed")
    assert scene.submit(force=True).state is State.SUBMITTED
    assert scene.stored().submissions == 1
    assert len(scene.posts) == 3


def test_put_is_signed_for_exactly_what_is_there(scene: Scene) -> None:
    scene.submit()
    scene.store_result(request_id="r0", audio_etag='"e0"')
    there = scene.s3.objects[SESSION.result_key].etag
    scene.ends(failed(FailureCode.INTERNAL))
    scene.runpod.on("/run", Reply(job("IN_QUEUE") | {"id": "job-2"}))
    assert scene.submit().state is State.SUBMITTED
    assert scene.submit(force=True).state is State.SUBMITTED
    conditions = [post["input"]["result_headers"] for post in scene.posts]
    assert [headers.get("If-None-Match") for headers in conditions] == ["*", None, None]
    assert [headers.get("If-Match") for headers in conditions] == [None, there, there]
    assert scene.stored().replaces == there


def test_jobs_that_the_deployment_ended_do_not_count(scene: Scene) -> None:
    scene.held(ended="MODEL_UNAVAILABLE: no model")
    assert scene.submit().claim == scene.stored()
    assert scene.stored().submissions == 1


@pytest.mark.parametrize(
    ("held", "said"),
    [({"endpoint_id": "ep2"}, "RUNPOD_ENDPOINT_ID=ep2"), (None, "no claim of this client")],
)
def test_claim_that_forbids_a_submission_is_a_conflict_and_force_cancels_a_job(
    scene: Scene, held: dict[str, str] | None, said: str
) -> None:
    scene.held(**(held or {}))
    if held is None:
        scene.s3.put(SESSION.claim_key, b"{}")
    with pytest.raises(errors.ClaimConflict, match=said):
        scene.submit()
    assert scene.posts == []
    assert scene.submit(force=True).state is State.SUBMITTED
    scene.runpod.on("/cancel/job-2", Reply(job("CANCELLED")))
    scene.held(job_id="job-2")
    assert scene.submit(force=True).state is State.SUBMITTED
    assert [call.path for call in scene.runpod.calls] == ["/run", "/cancel/job-2", "/run"]


def test_lost_answer_keeps_the_claim_and_nobody_posts_again(scene: Scene) -> None:
    scene.runpod.on("/run", Reply(drop=True))
    assert scene.submit().state is State.UNANSWERED
    assert f"edge-client wait {SESSION}" in scene.said[-1]
    assert scene.submit().state is State.UNANSWERED
    assert len(scene.posts) == 1


def test_lost_answer_is_remembered_while_s3_is_away(scene: Scene) -> None:
    scene.runpod.on("/run", Reply(drop=True))
    away = iter([(503, "x")] * 4)  # with botocore's retries: one GET of the claim
    scene.s3.refuse = lambda method, key: (
        next(away, None) if key == SESSION.claim_key and scene.posts else None
    )
    assert scene.submit().state is State.UNANSWERED
    assert len(scene.posts) == 1


@pytest.mark.parametrize(
    ("status", "error", "posts"),
    [(401, errors.Unauthorized, 1), (429, errors.RateLimited, 5)],
)
def test_refused_submission_frees_the_session(
    scene: Scene, status: int, error: type[errors.EdgeError], posts: int
) -> None:
    scene.runpod.on("/run", Reply(status=status))
    with pytest.raises(error):
        scene.submit()
    assert len(scene.posts) >= posts
    assert scene.stored().submissions == 0
    scene.runpod.on("/run", Reply(job("IN_QUEUE")))
    assert scene.submit().state is State.SUBMITTED


def test_busy_queue_is_asked_again_after_what_it_says(scene: Scene) -> None:
    busy = Reply(status=429, headers={"Retry-After": "77"})
    scene.runpod.on("/run", busy, Reply(status=429), Reply(job("IN_QUEUE")))
    assert scene.submit().state is State.SUBMITTED
    assert [slept for slept in scene.clock.slept if slept > 10] == [77, 15]
    assert "wants fewer requests" in scene.said[0]
    assert scene.stored().job_id == "job-1"


@pytest.mark.parametrize("posts", [0, 1], ids=["before the claim", "during a pause"])
def test_other_box_that_claims_in_between_wins(scene: Scene, posts: int) -> None:
    def claim_it() -> None:
        scene.s3.put(SESSION.claim_key, claim(request_id="theirs").model_dump_json().encode())

    def claimed_in_between(method: str, key: str) -> None:
        if method == "PUT" and key not in scene.s3.objects and not posts:
            claim_it()

    scene.s3.refuse = claimed_in_between
    scene.edge.clock = Clock(scene.clock.now, scene.clock.monotonic, lambda _: claim_it())
    scene.runpod.on("/run", Reply(status=429), Reply(job("IN_QUEUE")))
    sub = scene.submit()
    assert (sub.state, sub.claim) == (State.ALREADY_SUBMITTED, claim(request_id="theirs"))
    assert "another edge box" in scene.said[-1]
    assert len(scene.posts) == posts


def test_second_try_of_another_box_is_not_taken_for_its_refused_first(scene: Scene) -> None:
    """It has the same request id, and its POST may be under way."""
    theirs = claim(request_id="theirs", job_id=None, audio_etag=scene.audio_etag)

    def put(there: Claim) -> None:
        scene.s3.put(SESSION.claim_key, there.model_dump_json().encode())

    put(theirs.released(NOW))
    scene.edge.clock = Clock(scene.clock.now, scene.clock.monotonic, lambda _: put(theirs))
    scene.runpod.on("/run", Reply(status=429), Reply(job("IN_QUEUE")))
    sub = scene.submit()
    assert (sub.state, sub.claim) == (State.UNANSWERED, theirs)
    assert len(scene.posts) == 1


def test_claim_whose_storing_got_no_answer_is_known_not_to_be_posted(scene: Scene) -> None:
    store = scene.edge.bucket.replace
    lost = iter([True])

    def stored_and_lost(key: str, body: bytes, etag: str | None) -> str:
        stored = store(key, body, etag)
        if next(lost, False):
            raise errors.Unreachable("S3 does not answer")
        return stored

    scene.edge.bucket.replace = stored_and_lost  # type: ignore[method-assign]
    assert scene.submit().state is State.SUBMITTED
    assert (len(scene.posts), scene.stored().job_id, scene.stored().submissions) == (1, "job-1", 1)
    assert scene.clock.slept == [15]


def test_job_id_is_not_lost_with_its_claim(scene: Scene) -> None:
    puts = iter([None, (403, "AccessDenied")])
    scene.s3.refuse = lambda method, key: next(puts) if method == "PUT" else None
    sub = scene.submit()
    assert sub.claim is not None
    assert sub.claim.job_id == "job-1"
    assert "job job-1 is in flight, but its claim could not be updated" in scene.said[0]


def with_keys_for(scene: Scene, left_s: int) -> None:
    keys: Any = SimpleNamespace(
        get_frozen_credentials=lambda: None, _expiry_time=NOW + timedelta(seconds=left_s)
    )
    connection = replace(scene.edge.connection, temporary=True, credentials=keys)
    scene.edge.__dict__["connection"] = connection


@pytest.mark.parametrize(("left_s", "lived_s"), [(301, 301), (8700, 8700), (9000, 8700)])
def test_keys_that_end_early_are_said_and_shorten_everything_or_nothing_is_claimed(
    scene: Scene, left_s: int, lived_s: int
) -> None:
    with_keys_for(scene, 300)  # a recording of 2 s needs 301
    with pytest.raises(errors.KeysEndTooSoon, match="end at 2026-11-01 12:05:00 UTC.*renew"):
        scene.submit()
    assert (SESSION.claim_key in scene.s3.objects, scene.runpod.calls) == (False, [])
    with_keys_for(scene, left_s)
    scene.submit()
    assert [line[:28] for line in scene.said] == ["the AWS keys end at 2026-11-"] * (left_s < 8700)
    (body,) = scene.posts
    assert expires_s(body["input"]["result_url"]) == lived_s
    assert body["policy"]["executionTimeout"] == min(600, left_s) * 1000
    assert body["policy"]["ttl"] == min(7800, left_s) * 1000


def test_claim_keeps_the_wishes_and_no_url(scene: Scene) -> None:
    wishes = {"initial_prompt": "x" * 2000, "task": "translate", "drop_flagged": True}
    scene.submit(webhook="https://edge.example.com/h", progress_file=True, **wishes)
    wanted = json.loads(scene.s3.objects[SESSION.claim_key].body)["wanted"]
    told = {name: value for name, value in wanted.pop("options").items() if value}
    assert told == {"language": "en"} | wishes
    assert wanted == {"webhook": "https://edge.example.com/h", "progress_file": True}
    assert f"/{SESSION.progress_key}?" in scene.posts[0]["input"]["progress_url"]
    assert b"X-Amz" not in scene.s3.objects[SESSION.claim_key].body

"""Following a session to its end: what is submitted again, how often, and what is looked for."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from edge_client import api
from edge_client.clock import Clock
from edge_client.errors import ClaimConflict, ObjectRefused, Unreachable, WaitTimedOut
from edge_client.jobs import claim as claims
from edge_client.jobs.poll import NotesView
from edge_client.jobs.reconcile import Done, Next, Reconciler, RequeueAfter
from edge_client.jobs.retry_policy import Ending, Result
from edge_client.services.runpod import is_idle
from tests.fakes.servers import Reply
from tests.unit.edge_client.jobs.scene import GONE, IDLE, Scene, expires_s, failed, undelivered
from tests.unit.edge_client.samples import NOW, SESSION, claim, job, wav


@pytest.fixture
def out(scene: Scene) -> Scene:
    """The scene with job-1 in flight."""
    scene.held(wanted={"options": {"language": "de"}})
    return scene


@pytest.mark.parametrize(
    ("end", "name", "waited_s"),
    [
        (failed(FailureCode.INTERNAL), "INTERNAL", 0),
        (GONE, "forgotten", 180),
        (undelivered(body=b"not a transcript"), "damaged", 0),
    ],
)
def test_job_that_can_be_mended_is_submitted_again(
    out: Scene, end: Any, name: str, waited_s: float
) -> None:
    out.ends(end)
    out.done_by(2)
    assert out.go().result is Result.DONE
    now = out.stored()
    assert (now.job_id, [a.ended for a in now.earlier]) == ("job-2", [name])
    (post,) = out.posts
    assert post["input"]["request_id"] == now.request_id != "r1"
    assert post["input"]["language"] == "de"  # as was asked for at first
    assert waited_s <= sum(out.clock.slept) < waited_s + 15


def test_job_whose_id_is_not_in_its_claim_is_cancelled_before_another_follows(
    scene: Scene,
) -> None:
    puts = iter([None, *[(503, "x")] * 4])  # botocore's retries: the second PUT fails
    scene.s3.refuse = lambda method, key: next(puts, None) if method == "PUT" else None
    submitted = scene.submit()
    assert (submitted.claim and submitted.claim.job_id, scene.stored().job_id) == ("job-1", None)
    scene.ends(GONE)
    scene.done_by(2)
    scene.runpod.on("/cancel/job-1", Reply(job("CANCELLED")))
    assert api.wait(scene.edge, submitted).outcome.result is Result.DONE
    paid = [call.path for call in scene.runpod.calls if call.method == "POST"]
    assert paid == ["/run", "/cancel/job-1", "/run"]


@pytest.mark.parametrize(
    "wishes",
    [{"mood": "calm"}, {"language": 5}, {"audio_url": "https://b/a"}, {"request_id": "r9"}],
)
def test_claim_with_wishes_that_this_client_does_not_know_is_kept_and_named(
    scene: Scene, wishes: dict[str, Any]
) -> None:
    body = json.loads(scene.held().model_dump_json()) | {"wanted": {"options": wishes}}
    scene.s3.put(SESSION.claim_key, json.dumps(body).encode())
    with pytest.raises(ClaimConflict, match=f"{SESSION.claim_key} is no claim of this client"):
        scene.submit()
    assert (scene.posts, scene.stored_body()) == ([], body)


def test_attempts_are_bounded_and_then_reported_once(out: Scene) -> None:
    out.ends(*[failed(FailureCode.OUT_OF_MEMORY)] * 3)
    outcome = out.go()
    assert (outcome.result, outcome.message) == (Result.FAILED, "it failed (after 3 submissions)")
    assert len(out.posts) == 2
    assert out.stored().ended == "OUT_OF_MEMORY: it failed (after 3 submissions)"
    out.ends(GONE, GONE, GONE)
    again = out.go()  # hears the same, and pays nothing
    assert (again.result, again.message) == (Result.FAILED, out.stored().ended)
    assert len(out.posts) == 2


@pytest.mark.parametrize(
    ("code", "result"),
    [(FailureCode.AUDIO_UNREADABLE, Result.FAILED), (FailureCode.AUDIO_NOT_FOUND, Result.SKIPPED)],
)
def test_what_no_other_job_mends_is_reported(out: Scene, code: FailureCode, result: Result) -> None:
    out.ends(failed(code))
    assert (out.go().result, out.posts) == (result, [])
    assert out.stored().ended == f"{code}: it failed"


@pytest.mark.parametrize(
    ("end", "timeout_s"),
    [
        (failed(FailureCode.RESULT_URL_EXPIRES_TOO_SOON, needed_s=50_000), 100_000),
        (job("TIMED_OUT", executionTime=4_000_000), 8000),
        (job("FAILED", error="executionTimeout exceeded", executionTime=4_000_001), 8000),
    ],
)
def test_job_and_urls_too_short_get_twice_the_time(out: Scene, end: Any, timeout_s: int) -> None:
    out.held(execution_timeout_s=4000)
    out.ends(end)
    out.done_by(2)
    out.go()
    (post,) = out.posts
    assert post["policy"]["executionTimeout"] == timeout_s * 1000
    assert expires_s(post["input"]["result_url"]) > timeout_s


@pytest.mark.parametrize(
    ("held", "last", "said", "waited_s"),
    [
        ({"expires_at": NOW - timedelta(seconds=1)}, GONE, "edge-client doctor", 0),
        ({"expires_at": NOW + timedelta(seconds=60)}, job("IN_QUEUE"), "edge-client doctor", 360),
        ({"expires_at": NOW, "job_id": None}, GONE, "edge-client doctor", 300),
        (claim(job_id=None).released(NOW).model_dump(), GONE, "no job is in flight", 0),
    ],
    ids=["late", "queued", "unanswered", "refused"],
)
def test_job_whose_time_is_over_is_reported_not_repeated(
    out: Scene, held: dict[str, Any], last: Any, said: str, waited_s: float
) -> None:
    out.held(**{"submitted_at": NOW - timedelta(hours=3)} | held | {"audio_etag": out.audio_etag})
    out.ends(last)
    out.runpod.on("/health", GONE)
    outcome = out.go()
    assert (outcome.result, outcome.reason, out.posts) == (Result.LOST, Ending.EXPIRED, [])
    assert said in outcome.message
    assert waited_s <= sum(out.clock.slept) < waited_s + 12


def test_other_box_that_went_on_is_followed(out: Scene) -> None:
    theirs = out.stored().model_copy(update={"request_id": "r-theirs", "job_id": "job-7"})

    def while_pausing(seconds: float) -> None:
        out.clock.sleep(seconds)
        out.s3.put(SESSION.claim_key, theirs.model_dump_json().encode())
        out.store_result(request_id="r-theirs")

    out.ends(failed(FailureCode.STORAGE_UNAVAILABLE))
    out.runpod.on("/status/job-7", Reply(job("COMPLETED")))
    out.edge.clock = Clock(out.clock.now, out.clock.monotonic, while_pausing)
    assert (out.go().result, out.posts) == (Result.DONE, [])


def test_lost_answer_is_submitted_again_once_the_endpoint_is_proven_idle(out: Scene) -> None:
    out.ends(failed(FailureCode.INTERNAL))
    out.runpod.on("/run", Reply(status=502), Reply(job("IN_QUEUE") | {"id": "job-2"}))
    out.done_by(2)
    assert out.go().result is Result.DONE
    assert [a.ended for a in out.stored().earlier] == ["INTERNAL", "unanswered"]
    assert len(out.posts) == 2
    assert 120 <= sum(out.clock.slept) < 140


def test_recording_that_changed_while_its_job_ran_is_run_again(out: Scene) -> None:
    out.ends(job("COMPLETED"))

    def changes(method: str, key: str) -> None:
        if out.runpod.count("/status/job-1") == 1 and SESSION.result_key not in out.s3.objects:
            out.s3.put(SESSION.audio_key, wav(3))
            out.store_result()
        if out.runpod.count("/status/job-2"):
            out.store_result(request_id=out.stored().request_id)

    out.s3.refuse = changes
    out.runpod.on("/status/job-2", Reply(job("COMPLETED")))
    assert out.go().result is Result.DONE
    assert len(out.posts) == 1
    now = out.stored()
    assert (now.job_id, now.earlier, now.audio_etag) == ("job-2", (), out.audio_etag)


def test_recording_replaced_before_its_worker_read_it_is_not_run_again(out: Scene) -> None:
    out.ends(job("COMPLETED"))
    out.s3.put(SESSION.audio_key, wav(3))
    out.store_result(audio_etag=out.audio_etag)
    assert (out.go().result, out.posts) == (Result.DONE, [])


def test_each_reason_for_waiting_is_explained_once(out: Scene) -> None:
    waits = [Reply(job("IN_QUEUE"))] * 99
    out.runpod.on("/status/job-1", *waits, Reply(failed(FailureCode.AUDIO_UNREADABLE)))
    seen = [{"throttled": 2}, {"throttled": 1}, {"unhealthy": 2}, {"throttled": 1}]
    out.runpod.on("/health", *(Reply({"workers": workers}) for workers in seen))
    api.wait(out.edge, SESSION, view=NotesView(out.said.append))
    throttled, unhealthy = out.said
    assert "allow more kinds" in throttled
    assert "2 of the endpoint's workers unhealthy" in unhealthy


def test_recording_that_never_stops_changing_ends_all_the_same(out: Scene) -> None:
    seconds = iter(range(3, 1000))

    def changes(method: str, key: str) -> None:
        if (method, key) == ("HEAD", SESSION.audio_key):
            out.s3.put(SESSION.audio_key, wav(next(seconds)))
        out.store_result(request_id=out.stored().request_id)

    out.s3.refuse = changes
    out.ends(*[job("COMPLETED")] * 8)
    outcome = out.go()
    assert (outcome.result, outcome.reason) == (Result.LOST, Ending.RERECORDED)
    assert len(out.posts) == 2


@pytest.mark.parametrize(
    ("answer", "away_s", "error", "waits"),
    [
        ((503, "x"), 10, None, 1),
        ((503, "x"), 310, Unreachable, 20),
        ((403, "AccessDenied"), 10, ObjectRefused, 0),
    ],
)
def test_inline_transcript_waits_for_s3_or_for_the_next_who_waits(
    out: Scene, answer: tuple[int, str], away_s: float, error: type[Exception] | None, waits: int
) -> None:
    out.ends(undelivered())
    out.s3.refuse = lambda method, key: (
        answer if method == "PUT" and out.clock.monotonic() < away_s else None
    )
    if error is not None:
        with pytest.raises(error):
            out.go()
        assert out.stored().ended is None
        out.clock.sleep(10)
    assert (out.go().result, out.posts) == (Result.DONE, [])
    assert len([slept for slept in out.clock.slept if slept > 14]) == waits


@pytest.mark.parametrize(
    ("last", "said"),
    [
        (job("IN_PROGRESS"), f"its job goes on; `edge-client wait {SESSION}` resumes"),
        (failed(FailureCode.STORAGE_UNAVAILABLE), "no job is in flight; "),
    ],
)
def test_timeout_ends_waiting_and_pauses(out: Scene, last: Any, said: str) -> None:
    out.ends(last)
    with pytest.raises(WaitTimedOut, match=said):
        out.go(timeout_s=10)
    assert sum(out.clock.slept) == pytest.approx(10)
    assert out.posts == []


def test_stored_transcript_needs_no_status_and_neither_recording_nor_claim(scene: Scene) -> None:
    with pytest.raises(ClaimConflict, match=f"edge-client submit {SESSION}"):
        scene.go()
    scene.store_result()
    assert scene.go().result is Result.DONE
    recording = scene.s3.objects[SESSION.audio_key]
    for changes in ({"expires_at": NOW - timedelta(days=1)}, {"job_id": None}):
        scene.s3.objects[SESSION.audio_key] = recording
        scene.held(**changes)
        del scene.s3.objects[SESSION.audio_key]
        assert scene.go().result is Result.DONE
    assert [call.path for call in scene.runpod.calls] == ["/health"]


Search = Callable[[], Next]


@pytest.fixture
def search(scene: Scene) -> Search:
    """One look for a submission without an answer."""
    scene.held(job_id=None)
    # a look for another, before the POST, proves nothing
    assert scene.edge.api.idle_since() is not None
    scene.clock.sleep(500)
    view = NotesView(scene.said.append)
    return Reconciler(scene.edge, SESSION, view, claims.read(scene.edge.bucket, SESSION)).step


def is_lost(seen: Next) -> bool:
    """Whether the submission is proven not to be there."""
    return isinstance(seen, RequeueAfter) and seen.ended is not None


def test_only_zeros_that_are_said_are_idle() -> None:
    for queued, at_work, running in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, None, 0)):
        jobs, is_zero = {"inQueue": queued, "inProgress": at_work}, queued == at_work == running
        assert is_idle({"jobs": jobs, "workers": {"running": running}}) is is_zero
        assert not is_idle({"jobs": jobs, "workers": []})


AWAY = [Reply(status=503)] * 4  # one call's own tries


@pytest.mark.parametrize(
    "noise", [[], [Reply({"jobs": {"inQueue": 1}})], [Reply(status=401)], AWAY]
)
def test_absence_takes_an_idle_endpoint_for_longer_than_a_post_can_be_on_its_way(
    scene: Scene, search: Search, noise: list[Reply]
) -> None:
    """And anything but idle starts the count anew."""
    if noise:
        scene.runpod.on("/health", IDLE, *noise, IDLE)
        for _ in range(2):
            assert not is_lost(search())
            scene.clock.sleep(100)
    assert not is_lost(search())
    scene.clock.sleep(119)
    assert not is_lost(search())
    scene.clock.sleep(1)
    assert is_lost(search())


def test_job_that_ends_between_the_two_looks_is_not_missed(scene: Scene, search: Search) -> None:
    """S3 is read after the queue: who reads it before sees neither job nor transcript."""
    assert not is_lost(search())
    scene.clock.sleep(500)

    def stored_after_the_last_look_at_the_queue(method: str, key: str) -> None:
        if scene.runpod.count("/health") == 3:
            scene.store_result()

    scene.s3.refuse = stored_after_the_last_look_at_the_queue
    assert isinstance(search(), Done)


def test_id_that_the_posting_box_wrote_meanwhile_is_followed(scene: Scene, search: Search) -> None:
    scene.held(job_id="job-9")
    scene.ends({})
    scene.runpod.on("/status/job-9", Reply(job("IN_PROGRESS", id="job-9")))
    for _ in range(2):
        assert not is_lost(search())
    assert scene.runpod.count("/status/job-9") == 1

"""Campaigns: what fails is mended through the claim, so often and not more, from any box."""

import base64
import gzip
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    Stage,
    StoredResult,
    TranscriptForm,
    UploadFailed,
)
from edge_client import api
from edge_client.clock import Clock
from edge_client.errors import StorageRefused, Unreachable, WaitTimedOut
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Claim
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.retry_policy import Ending, Result
from edge_client.services.edge import Edge
from tests.unit.edge_client.samples import NOW, SESSION, FakeClock, claim, job, transcript, wav
from tests.unit.edge_client.servers import Reply, RunpodServer, S3Server

QUIET = Reply(
    {"jobs": {"inQueue": 0, "inProgress": 0}, "workers": {"idle": 1, "running": 0}},
)
GONE = Reply(status=404)


def failed(code: FailureCode, needed_s: int | None = None) -> dict[str, Any]:
    failure = JobFailure.of(code, "it failed", Stage.FETCH, needed_s)
    return job("FAILED", error=failure.model_dump_json())


def undelivered(form: TranscriptForm = TranscriptForm.COMPLETE, body: bytes = b"") -> Reply:
    body = body or transcript()
    answer = UploadFailed(
        failure=JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER),
        transcript_gzip_base64=base64.b64encode(gzip.compress(body)).decode(),
        result=StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest()),
        form=form,
    )
    return Reply(job("COMPLETED", output=answer.model_dump(mode="json")))


class Scene:
    """A session with a job out, job-1; the endpoint names what follows job-2, job-3 and so on."""

    def __init__(self, edge: Edge, s3: S3Server, runpod: RunpodServer) -> None:
        self.edge, self.s3, self.runpod = edge, s3, runpod
        s3.put(SESSION.audio_key, wav(2))
        self.claim = self.held(wanted={"wishes": {"language": "de"}})
        jobs = [Reply(job("IN_QUEUE") | {"id": f"job-{n}"}) for n in range(2, 9)]
        runpod.on("/run", *jobs)
        runpod.on("/health", QUIET)

    def held(self, **changes: Any) -> Claim:
        """Store a claim, in place of the one that is there."""
        etag = self.s3.objects[SESSION.audio_key].etag
        mine = claim(**({"audio_etag": etag, "execution_timeout_s": 600} | changes))
        claims.store(self.edge.bucket, SESSION, mine, claims.read(self.edge.bucket, SESSION))
        self.claim = mine
        return mine

    def ends(self, *statuses: Reply | dict[str, Any]) -> None:
        """Say how job-1, job-2, and so on end."""
        for number, status in enumerate(statuses, start=1):
            reply = status if isinstance(status, Reply) else Reply(status)
            self.runpod.on(f"/status/job-{number}", reply)

    def done_by(self, number: int) -> None:
        """Have a job store its transcript when it is asked for."""

        def look(method: str, key: str) -> None:
            if (
                self.runpod.count(f"/status/job-{number}")
                and SESSION.result_key not in self.s3.objects
            ):
                request_id = self.stored_raw().request_id
                self.s3.put(SESSION.result_key, transcript(request_id=request_id))

        self.s3.refuse = look
        self.runpod.on(f"/status/job-{number}", Reply(job("COMPLETED")))

    def go(self, timeout_s: float | None = None) -> Outcome:
        """Wait, as any box can."""
        return api.wait(self.edge, SESSION, timeout_s=timeout_s).outcome

    def stored(self) -> Claim:
        """The claim as it is in S3."""
        held = claims.read(self.edge.bucket, SESSION)
        assert held is not None
        assert held.claim is not None
        return held.claim

    def stored_raw(self) -> Claim:
        """The claim, without a request: for use while one is answered."""
        return Claim.model_validate_json(self.s3.objects[SESSION.claim_key].body)

    @property
    def posts(self) -> list[Any]:
        """The bodies of all POSTs of /run."""
        return [call.body for call in self.runpod.calls if call.path == "/run"]


@pytest.fixture
def out(edge: Edge, s3: S3Server, runpod: RunpodServer) -> Scene:
    return Scene(edge, s3, runpod)


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (failed(FailureCode.AUDIO_URL_EXPIRED), "AUDIO_URL_EXPIRED"),
        (failed(FailureCode.OUT_OF_MEMORY), "OUT_OF_MEMORY"),
        (failed(FailureCode.INTERNAL), "INTERNAL"),
        (job("FAILED", error="worker exited"), "crashed"),
        (job("TIMED_OUT"), "timed_out"),
        (job("COMPLETED"), "no_output"),
        (GONE, "forgotten"),
        (undelivered(body=b"not a transcript"), "damaged"),
    ],
)
def test_job_that_can_be_mended_is_submitted_again(
    out: Scene, clock: FakeClock, end: Any, name: str
) -> None:
    out.ends(end)
    out.done_by(2)
    assert out.go().result is Result.DONE
    now = out.stored()
    assert (now.job_id, [a.ended for a in now.earlier]) == ("job-2", [name])
    (post,) = out.posts
    assert post["input"]["request_id"] == now.request_id != "r1"
    assert post["input"]["language"] == "de"  # as was asked for at first
    assert sum(clock.slept) < 5


def test_storage_that_is_away_is_given_time(out: Scene, clock: FakeClock) -> None:
    away = failed(FailureCode.STORAGE_UNAVAILABLE)
    out.ends(away, away)
    out.done_by(3)
    assert out.go().result is Result.DONE
    first, second = (s for s in clock.slept if s > 12)
    assert 24 <= first <= 36
    assert 48 <= second <= 72


def test_attempts_are_bounded_and_then_reported_once(out: Scene) -> None:
    out.ends(*[failed(FailureCode.OUT_OF_MEMORY)] * 3)
    outcome = out.go()
    assert outcome.result is Result.FAILED
    assert outcome.message == "it failed (after 3 submissions)"
    assert len(out.posts) == 2
    assert out.stored().ended == "OUT_OF_MEMORY: it failed (after 3 submissions)"
    assert out.go().failure is not None  # who looks again hears the same, and pays nothing
    assert len(out.posts) == 2


def test_count_goes_on_where_another_box_stopped(out: Scene) -> None:
    before = [{"request_id": f"r-{n}", "ended": "OUT_OF_MEMORY"} for n in range(2)]
    out.held(earlier=before)
    out.ends(failed(FailureCode.OUT_OF_MEMORY))
    assert out.go().result is Result.FAILED
    assert out.posts == []


@pytest.mark.parametrize("code", [FailureCode.AUDIO_UNREADABLE, FailureCode.MODEL_UNAVAILABLE])
def test_what_no_second_job_mends_is_reported(out: Scene, code: FailureCode) -> None:
    out.ends(failed(code))
    assert out.go().failure is not None
    assert out.posts == []
    assert out.stored().ended == f"{code}: it failed"


def test_missing_audio_is_skipped(out: Scene) -> None:
    out.ends(failed(FailureCode.AUDIO_NOT_FOUND))
    assert out.go().result is Result.SKIPPED
    assert out.posts == []


def test_reported_reason_survives_runpods_memory(out: Scene) -> None:
    out.held(ended="AUDIO_UNREADABLE: no audio in it")
    out.ends(GONE)
    outcome = out.go()
    assert (outcome.result, outcome.message) == (Result.FAILED, "AUDIO_UNREADABLE: no audio in it")
    assert out.posts == []


def test_urls_that_were_too_short_are_signed_for_longer(out: Scene) -> None:
    out.ends(failed(FailureCode.RESULT_URL_EXPIRES_TOO_SOON, needed_s=50_000))
    out.done_by(2)
    out.go()
    (post,) = out.posts
    assert post["policy"]["executionTimeout"] == 100_000_000
    expires_s = int(post["input"]["result_url"].split("X-Amz-Expires=")[1].split("&")[0])
    assert expires_s > 100_000


def test_killed_job_is_given_twice_the_time_once(out: Scene) -> None:
    out.held(execution_timeout_s=4000)
    out.ends(job("TIMED_OUT"), job("TIMED_OUT"))
    assert out.go().ending is Ending.TIMED_OUT
    (post,) = out.posts
    assert post["policy"]["executionTimeout"] == 8_000_000


@pytest.mark.parametrize(
    "end", [job("TIMED_OUT"), job("COMPLETED"), job("FAILED", error="x"), GONE, undelivered()]
)
def test_s3_is_asked_before_anything_is_paid_for(out: Scene, s3: S3Server, end: Any) -> None:
    out.ends(end)
    s3.put(SESSION.result_key, transcript())
    stored = s3.objects[SESSION.result_key]
    assert out.go().result is Result.DONE
    assert out.posts == []
    assert s3.objects[SESSION.result_key] is stored


def test_late_transcript_of_an_earlier_submission_counts(out: Scene, s3: S3Server) -> None:
    out.held(request_id="r2", earlier=[{"request_id": "r1", "ended": "timed_out"}])
    out.ends(failed(FailureCode.STORAGE_UNAVAILABLE))
    s3.put(SESSION.result_key, transcript(request_id="r1"))
    assert out.go().result is Result.DONE
    assert out.posts == []


def test_job_whose_time_is_over_is_reported_not_repeated(out: Scene) -> None:
    out.held(submitted_at=NOW - timedelta(hours=3), expires_at=NOW - timedelta(seconds=1))
    out.ends(GONE)
    outcome = out.go()
    assert outcome.ending is Ending.EXPIRED
    assert "edge-client doctor" in outcome.message
    assert out.posts == []


def test_refused_submission_is_not_called_late(out: Scene) -> None:
    out.held(job_id=None)
    out.held(**out.claim.released(NOW).model_dump())
    outcome = out.go()
    assert outcome.message.startswith("no job is in flight")
    assert out.posts == []


def test_other_box_that_went_on_is_followed(out: Scene, s3: S3Server, clock: FakeClock) -> None:
    theirs = out.claim.model_copy(update={"request_id": "r-theirs", "job_id": "job-7"})

    def while_pausing(seconds: float) -> None:
        clock.sleep(seconds)
        s3.put(SESSION.claim_key, theirs.model_dump_json().encode())
        s3.put(SESSION.result_key, transcript(request_id="r-theirs"))

    out.ends(failed(FailureCode.STORAGE_UNAVAILABLE))
    out.runpod.on("/status/job-7", Reply(job("COMPLETED")))
    out.edge.clock = Clock(clock.now, clock.monotonic, while_pausing)
    assert out.go().result is Result.DONE
    assert out.posts == []


def test_lost_answer_is_submitted_again_once_the_endpoint_is_proven_idle(
    out: Scene, clock: FakeClock
) -> None:
    out.held(job_id=None)
    out.done_by(2)
    assert out.go().result is Result.DONE
    assert [a.ended for a in out.stored().earlier] == ["unanswered"]
    assert len(out.posts) == 1
    assert 120 <= sum(clock.slept) < 140


def test_answer_lost_to_a_resubmission_is_looked_for_too(out: Scene) -> None:
    out.ends(failed(FailureCode.INTERNAL))
    out.runpod.on("/run", Reply(status=502), Reply(job("IN_QUEUE") | {"id": "job-2"}))
    out.done_by(2)
    assert out.go().result is Result.DONE
    assert [a.ended for a in out.stored().earlier] == ["INTERNAL", "unanswered"]


def test_timeout_ends_a_pause(out: Scene, clock: FakeClock) -> None:
    out.ends(failed(FailureCode.STORAGE_UNAVAILABLE))
    with pytest.raises(WaitTimedOut, match=r"no job is in flight; .*edge-client wait"):
        out.go(timeout_s=10)
    assert sum(clock.slept) == pytest.approx(10)
    assert out.posts == []


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (TranscriptForm.COMPLETE, None),
        (TranscriptForm.WITHOUT_SCORES, "no scores"),
        (TranscriptForm.WITHOUT_WORDS, "no words"),
    ],
)
def test_inline_transcript_is_stored_and_what_it_lacks_is_said(
    out: Scene, s3: S3Server, form: TranscriptForm, said: str | None
) -> None:
    out.ends(undelivered(form))
    outcome = out.go()
    assert outcome.result is Result.DONE
    assert s3.objects[SESSION.result_key].body == transcript()
    assert (said or "") in (outcome.warning or "")
    assert (outcome.warning is None) is (said is None)


def test_recording_that_changed_while_its_job_ran_is_run_again(out: Scene, s3: S3Server) -> None:
    out.ends(job("COMPLETED"))

    def changes(method: str, key: str) -> None:
        if out.runpod.count("/status/job-1") == 1 and SESSION.result_key not in s3.objects:
            s3.put(SESSION.audio_key, wav(3))
            s3.put(SESSION.result_key, transcript())
        if out.runpod.count("/status/job-2"):
            s3.put(SESSION.result_key, transcript(request_id=out.stored_raw().request_id))

    s3.refuse = changes
    out.runpod.on("/status/job-2", Reply(job("COMPLETED")))
    assert out.go().result is Result.DONE
    assert len(out.posts) == 1
    now = out.stored_raw()
    assert (now.job_id, now.earlier) == ("job-2", ())
    assert now.audio_etag == s3.objects[SESSION.audio_key].etag


def test_recording_replaced_before_its_worker_read_it_is_not_run_again(
    out: Scene, s3: S3Server
) -> None:
    out.ends(job("COMPLETED"))
    s3.put(SESSION.audio_key, wav(3))
    s3.put(SESSION.result_key, transcript(audio_etag=s3.objects[SESSION.audio_key].etag))
    assert out.go().result is Result.DONE
    assert out.posts == []


def test_recording_replaced_after_its_worker_read_it_is_run_again(out: Scene, s3: S3Server) -> None:
    out.ends(job("COMPLETED"), job("COMPLETED"))
    s3.put(SESSION.result_key, transcript(audio_etag='"another"'))

    def stores(method: str, key: str) -> None:
        if out.runpod.count("/status/job-2"):
            claimed = out.stored_raw()
            doc = transcript(request_id=claimed.request_id, audio_etag=claimed.audio_etag)
            s3.put(SESSION.result_key, doc)

    s3.refuse = stores
    assert out.go().result is Result.DONE
    assert len(out.posts) == 1


def test_recording_that_never_stops_changing_ends_all_the_same(out: Scene, s3: S3Server) -> None:
    seconds = iter(range(3, 1000))

    def changes(method: str, key: str) -> None:
        if (method, key) == ("HEAD", SESSION.audio_key):
            s3.put(SESSION.audio_key, wav(next(seconds)))
        s3.put(SESSION.result_key, transcript(request_id=out.stored_raw().request_id))

    s3.refuse = changes
    out.ends(*[job("COMPLETED")] * 8)
    assert out.go().result is Result.DONE
    assert len(out.posts) == 3


def refusing_puts(s3: S3Server, times: int, answer: tuple[int, str]) -> None:
    seen: list[str] = []

    def refuse(method: str, key: str) -> tuple[int, str] | None:
        if (method, key) != ("PUT", SESSION.result_key) or len(seen) >= times:
            return None
        seen.append(key)
        return answer

    s3.refuse = refuse


def test_inline_transcript_waits_for_s3(out: Scene, s3: S3Server, clock: FakeClock) -> None:
    out.ends(undelivered())
    refusing_puts(s3, 4, (503, "SlowDown"))  # one call's own four tries
    assert out.go().result is Result.DONE
    assert any(24 <= slept <= 36 for slept in clock.slept)
    assert out.posts == []


@pytest.mark.parametrize(
    ("answer", "error"), [((503, "x"), Unreachable), ((403, "AccessDenied"), StorageRefused)]
)
def test_inline_transcript_that_s3_never_takes_is_still_there_for_the_next_wait(
    out: Scene, s3: S3Server, answer: tuple[int, str], error: type[Exception]
) -> None:
    out.ends(undelivered())
    refusing_puts(s3, 10_000, answer)
    with pytest.raises(error):
        out.go()
    assert out.stored().ended is None
    s3.refuse = lambda method, key: None
    assert out.go().result is Result.DONE
    assert out.posts == []

"""The end of a job: S3 decides, and an undelivered transcript is delivered from here."""

import base64
import gzip
import tracemalloc
from datetime import timedelta
from typing import Any

import pytest

from bucketscribe_contract import JobStatus, TranscriptForm
from edge_client.errors import Unreachable
from edge_client.jobs.outcome import Outcome, resolve_outcome, store_rescued_transcript
from edge_client.jobs.retry_policy import Result
from edge_client.services import s3 as s3_
from edge_client.services.edge import Edge
from tests.fakes.servers import S3Server
from tests.unit.edge_client.jobs.scene import upload_failed
from tests.unit.edge_client.samples import SESSION, claim, job, summary, transcript


def end(edge: Edge, state: str | None, held: Any = None, **more: Any) -> Outcome:
    status = None if state is None else JobStatus.model_validate(job(state, **more))
    outcome = resolve_outcome(edge.bucket, SESSION, claim(**(held or {})), status)
    if outcome.rescue is not None:
        return store_rescued_transcript(edge.bucket, SESSION, outcome.rescue)
    return outcome


@pytest.mark.parametrize(
    ("stored", "result", "said"),
    [
        (transcript(), Result.DONE, ""),
        (b"1234", Result.LOST, "S3 has something else"),
        (None, Result.LOST, "S3 has nothing"),
    ],
)
def test_summary_is_believed_only_when_s3_agrees(
    edge: Edge, s3: S3Server, stored: bytes | None, result: Result, said: str
) -> None:
    if stored is not None:
        s3.put(SESSION.result_key, stored)
    outcome = end(edge, "COMPLETED", output=summary())
    assert outcome.result is result
    assert said in outcome.message
    assert (outcome.transcript is not None) is (not said)


@pytest.mark.parametrize(
    ("state", "otherwise"),
    [
        (None, Result.LOST),
        ("COMPLETED", Result.LOST),
        ("TIMED_OUT", Result.LOST),
        ("CANCELLED", Result.CANCELLED),
        ("FAILED", Result.FAILED),
    ],
)
def test_transcript_of_this_submission_in_s3_is_success_whatever_runpod_says(
    edge: Edge, s3: S3Server, state: str | None, otherwise: Result
) -> None:
    s3.put(SESSION.audio_key, b"a", s3.now + timedelta(seconds=1))
    held = {"audio_etag": s3.objects[SESSION.audio_key].etag}
    s3.put(SESSION.result_key, transcript())
    assert end(edge, state, held).result is Result.DONE
    s3.put(SESSION.result_key, transcript(request_id="r0", audio_etag=held["audio_etag"]))
    assert end(edge, state, held).result is Result.DONE  # late, of a job before
    before = held | {"replaces": s3.objects[SESSION.result_key].etag}
    assert end(edge, state, before).result is otherwise
    s3.put(SESSION.result_key, transcript(request_id="another", audio_etag='"e0"'))
    assert end(edge, state, held).result is otherwise


def test_answer_of_another_submission_is_an_outage_and_stores_nothing(
    edge: Edge, s3: S3Server
) -> None:
    for output in (summary(request_id="r9"), upload_failed(request_id="r9")):
        with pytest.raises(Unreachable, match="another submission's"):
            end(edge, "COMPLETED", output=output)
    assert s3.objects == {}


def test_transcript_that_somebody_stored_meanwhile_is_not_replaced(
    edge: Edge, s3: S3Server
) -> None:
    status = JobStatus.model_validate(job("COMPLETED", output=upload_failed()))
    outcome = resolve_outcome(edge.bucket, SESSION, claim(), status)
    assert outcome.rescue is not None
    s3.put(SESSION.result_key, HOWDY)
    with pytest.raises(Unreachable):
        store_rescued_transcript(edge.bucket, SESSION, outcome.rescue)
    assert s3.objects[SESSION.result_key].body == HOWDY


HOWDY = transcript().replace(b"Hello", b"Howdy")


@pytest.mark.parametrize(
    ("there", "form", "kept", "lacks"),
    [
        (None, TranscriptForm.COMPLETE, transcript(), ""),
        (None, TranscriptForm.WITHOUT_SCORES, transcript(), "no scores"),
        (None, TranscriptForm.WITHOUT_WORDS, transcript(), "no words"),
        (HOWDY, TranscriptForm.COMPLETE, transcript(), ""),  # it gives way to the whole one
        (HOWDY, TranscriptForm.WITHOUT_WORDS, HOWDY, ""),  # but not to a shortened one
    ],
)
def test_undelivered_transcript_is_stored_from_here_and_what_it_lacks_is_said(
    edge: Edge, s3: S3Server, there: bytes | None, form: TranscriptForm, kept: bytes, lacks: str
) -> None:
    if there is not None:
        s3.put(SESSION.result_key, there)
    outcome = end(edge, "COMPLETED", output=upload_failed(form=form))
    assert outcome.result is Result.DONE
    assert lacks in (outcome.warning or "")
    assert (outcome.warning is None) is (not lacks)
    stored = s3.objects[SESSION.result_key]
    assert stored.body == kept
    assert stored.content_type == ("application/json" if kept == transcript() else None)


@pytest.mark.parametrize(
    "output",
    [
        upload_failed(transcript_gzip_base64="!"),
        upload_failed(transcript_gzip_base64="eA=="),
        upload_failed(result={"bytes": len(transcript()), "sha256": "0" * 64}),
        upload_failed(b"not a transcript"),
    ],
)
def test_damaged_transcript_is_not_stored(edge: Edge, s3: S3Server, output: dict[str, Any]) -> None:
    assert end(edge, "COMPLETED", output=output).result is Result.FAILED
    assert s3.objects == {}


@pytest.mark.parametrize("promised", [100, 10**12])
def test_bomb_is_unpacked_neither_beyond_its_promise_nor_beyond_what_a_transcript_can_be(
    edge: Edge, promised: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_, "MAX_READ_BYTES", 1_000_000)
    bomb = base64.b64encode(gzip.compress(bytes(50_000_000))).decode()
    result = {"bytes": promised, "sha256": "0" * 64}
    output = upload_failed(transcript_gzip_base64=bomb, result=result)
    _ = edge.bucket  # botocore's models are no part of it
    tracemalloc.start()
    try:
        assert end(edge, "COMPLETED", output=output).result is Result.FAILED
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()

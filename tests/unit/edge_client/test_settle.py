"""The end of a job: S3 decides, and an undelivered transcript is delivered from here."""

import base64
import gzip
import hashlib
import tracemalloc
from typing import Any

import pytest

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    JobStatus,
    Stage,
    StoredResult,
    UploadFailed,
)
from edge_client.jobs.outcome import Outcome, resolve_outcome, store_rescued_transcript
from edge_client.jobs.retry_policy import Result
from edge_client.services.edge import Edge
from tests.unit.edge_client.samples import SESSION, claim, job, transcript
from tests.unit.edge_client.servers import S3Server


def end(edge: Edge, state: str | None, **more: Any) -> Outcome:
    status = None if state is None else JobStatus.model_validate(job(state, **more))
    outcome = resolve_outcome(edge.bucket, SESSION, claim(), status)
    if outcome.answer is not None:
        return store_rescued_transcript(edge.bucket, SESSION, outcome.answer)
    return outcome


def summary(size_bytes: int) -> dict[str, Any]:
    return {
        "segments_count": 7,
        "speakers_count": 2,
        "duration_seconds": 2.0,
        "processing_time_seconds": 1.0,
        "result": {"bytes": size_bytes, "sha256": "0" * 64},
        "timings": {},
    }


def undelivered(body: bytes, **changes: Any) -> dict[str, Any]:
    answer = UploadFailed(
        failure=JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER),
        transcript_gzip_base64=base64.b64encode(gzip.compress(body)).decode(),
        result=StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest()),
    )
    return answer.model_dump(mode="json") | changes


def test_summary_is_believed_when_s3_agrees(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.result_key, b"12345")
    outcome = end(edge, "COMPLETED", output=summary(5))
    assert outcome.result is Result.DONE
    assert outcome.delivered is not None
    assert outcome.delivered.segments_count == 7


def test_summary_is_not_believed_when_s3_has_another_size(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.result_key, b"1234")
    outcome = end(edge, "COMPLETED", output=summary(5))
    assert outcome.result is Result.LOST
    assert "S3 has 4 bytes" in outcome.message


def test_summary_is_not_believed_when_s3_has_nothing(edge: Edge) -> None:
    assert end(edge, "COMPLETED", output=summary(5)).result is Result.LOST


@pytest.mark.parametrize("state", [None, "COMPLETED", "TIMED_OUT", "CANCELLED", "FAILED"])
def test_transcript_of_the_job_in_s3_is_success_whatever_runpod_says(
    edge: Edge, s3: S3Server, state: str | None
) -> None:
    s3.put(SESSION.result_key, transcript())
    assert end(edge, state).result is Result.DONE


@pytest.mark.parametrize(
    ("state", "result"),
    [(None, Result.LOST), ("COMPLETED", Result.LOST), ("CANCELLED", Result.CANCELLED)],
)
def test_transcript_of_another_submission_proves_nothing(
    edge: Edge, s3: S3Server, state: str | None, result: Result
) -> None:
    s3.put(SESSION.result_key, transcript(request_id="another"))
    assert end(edge, state).result is result


def test_undelivered_transcript_is_stored_from_here(edge: Edge, s3: S3Server) -> None:
    outcome = end(edge, "COMPLETED", output=undelivered(transcript()))
    assert outcome.result is Result.DONE
    assert s3.objects[SESSION.result_key].body == transcript()
    assert s3.objects[SESSION.result_key].content_type == "application/json"


def test_other_bytes_in_s3_give_way_to_the_whole_transcript(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.result_key, transcript().replace(b"Hello", b"Howdy"))
    outcome = end(edge, "COMPLETED", output=undelivered(transcript()))
    assert outcome.result is Result.DONE
    assert s3.objects[SESSION.result_key].body == transcript()


def test_a_shortened_transcript_does_not_replace_the_one_in_s3(edge: Edge, s3: S3Server) -> None:
    whole = transcript().replace(b"Hello", b"Howdy")
    s3.put(SESSION.result_key, whole)
    output = undelivered(transcript(), form="without_words")
    assert end(edge, "COMPLETED", output=output).result is Result.DONE
    assert s3.objects[SESSION.result_key].body == whole


@pytest.mark.parametrize(
    "output",
    [
        undelivered(transcript(), transcript_gzip_base64="!"),
        undelivered(transcript(), transcript_gzip_base64="eA=="),
        undelivered(transcript(), result={"bytes": 5, "sha256": "0" * 64}),
        undelivered(transcript(), result={"bytes": len(transcript()), "sha256": "0" * 64}),
        undelivered(b"not a transcript"),
    ],
)
def test_damaged_transcript_is_not_stored(edge: Edge, s3: S3Server, output: dict[str, Any]) -> None:
    outcome = end(edge, "COMPLETED", output=output)
    assert outcome.result is Result.FAILED
    assert s3.objects == {}


def test_bomb_is_not_unpacked_beyond_its_promise(edge: Edge) -> None:
    bomb = base64.b64encode(gzip.compress(bytes(50_000_000))).decode()
    output = undelivered(transcript(), transcript_gzip_base64=bomb)
    _ = edge.bucket  # botocore's models are no part of it
    tracemalloc.start()
    try:
        assert end(edge, "COMPLETED", output=output).result is Result.FAILED
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_failure_keeps_the_workers_code(edge: Edge) -> None:
    failure = JobFailure.of(FailureCode.AUDIO_UNREADABLE, "no audio in it", Stage.DECODE)
    outcome = end(edge, "FAILED", error=failure.model_dump_json())
    assert (outcome.result, outcome.failure) == (Result.FAILED, failure)

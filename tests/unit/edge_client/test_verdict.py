"""What a job's last status means, before S3 is looked at."""

import json
from typing import Any

import pytest

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    JobStatus,
    JobSummary,
    Stage,
    StoredResult,
    UploadFailed,
)
from edge_client.jobs.retry_policy import Result, Unconfirmed, classify_status
from tests.unit.edge_client.samples import job

STORED = StoredResult(bytes=10, sha256="0" * 64)
FAILURE = JobFailure.of(FailureCode.AUDIO_NOT_FOUND, "no audio", Stage.FETCH)


def status(state: str, **more: Any) -> JobStatus:
    return JobStatus.model_validate(job(state, **more))


def summary() -> JobSummary:
    return JobSummary(
        segments_count=1,
        speakers_count=1,
        duration_seconds=2.0,
        processing_time_seconds=1.0,
        result=STORED,
        timings={},
    )


def test_summary_is_read() -> None:
    output = summary().model_dump(mode="json", exclude_none=True)
    assert classify_status(status("COMPLETED", output=output)) == summary()


def test_what_a_newer_worker_adds_to_its_summary_is_passed_over() -> None:
    output = summary().model_dump(mode="json", exclude_none=True) | {"new_field": 1}
    assert classify_status(status("COMPLETED", output=output)) == summary()


def test_undelivered_transcript_is_read_as_the_sdk_posts_it() -> None:
    """The SDK takes a key named ``error`` out of an answer: the reason has another name."""
    answer = UploadFailed(failure=FAILURE, transcript_gzip_base64="eA==", result=STORED)
    output = answer.model_dump(mode="json")
    assert "error" not in output
    assert classify_status(status("COMPLETED", output=output)) == answer


@pytest.mark.parametrize("where", ["error", "output"])
def test_failure_of_the_worker_is_read(where: str) -> None:
    text = FAILURE.model_dump_json()
    more = {"error": text} if where == "error" else {"output": {"error": text}}
    assert classify_status(status("FAILED", **more)) == FAILURE


@pytest.mark.parametrize("output", [None, {}, "done", {"status": "ok"}, [1]])
def test_completed_without_a_summary_is_unproven(output: object) -> None:
    verdict = classify_status(status("COMPLETED", output=output))
    assert isinstance(verdict, Unconfirmed)
    assert verdict.result is Result.LOST


@pytest.mark.parametrize(
    ("last", "result"),
    [
        (None, Result.LOST),
        (status("TIMED_OUT"), Result.LOST),
        (status("CANCELLED"), Result.CANCELLED),
        (status("FAILED"), Result.FAILED),
        (status("FAILED", error="worker exited"), Result.FAILED),
    ],
)
def test_other_ends_are_unproven(last: JobStatus | None, result: Result) -> None:
    verdict = classify_status(last)
    assert isinstance(verdict, Unconfirmed)
    assert verdict.result is result


def test_traceback_of_a_crashed_handler_is_not_shown() -> None:
    text = json.dumps(
        {
            "error_type": "<class 'ValueError'>",
            "error_message": "cannot GET https://b/a?X-Amz-Signature=abc",
            "error_traceback": "Traceback (most recent call last): ...",
        }
    )
    verdict = classify_status(status("FAILED", error=text))
    assert isinstance(verdict, Unconfirmed)
    assert "cannot GET https://b/a?***" in verdict.message
    assert "Traceback" not in verdict.message

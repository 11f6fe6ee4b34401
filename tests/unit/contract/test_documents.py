"""Summary, transcript, failures, policy, states: sizes, keys, limits, schemas."""

import json
from datetime import datetime
from typing import Any

import pytest
from pydantic import ValidationError

from bucketscribe_contract import (
    FAILURES,
    ExecutionPolicy,
    FailureCode,
    JobFailure,
    JobState,
    JobStatus,
    JobSummary,
    Progress,
    Segment,
    Stage,
    StoredResult,
    WarningCode,
    WireModel,
    Word,
)

DETAILS = {
    WarningCode.FLAGGED: "repetition 99, no_speech 99, low_confidence 99; 297 dropped",
    WarningCode.UNCOVERED_SPEECH: "999 s in 99 places",
}


def summary(**changes: Any) -> JobSummary:
    """A 74-minute recording of 1,117 segments, everything reported at its longest."""
    fields: dict[str, Any] = {
        "segments_count": 1117,
        "speakers_count": 2,
        "duration_seconds": 4447.512,
        "processing_time_seconds": 1892.345,
        "language": "en",
        "warnings": tuple(f"{c}: {DETAILS[c]}" if c in DETAILS else c for c in WarningCode),
        "result": StoredResult(bytes=2_411_233, sha256="ab" * 32),
        "timings": {stage: 1234.567 for stage in Stage},
        "request_id": "r" * 64,
        "audio_etag": '"' * 64,  # escaped
    }
    return JobSummary(**(fields | changes))


def test_the_longest_summary_stays_under_one_kilobyte() -> None:
    assert len(summary().model_dump_json().encode()) < 1024


@pytest.mark.parametrize(
    "change",
    [
        *({"audio_etag": etag} for etag in ("", "e" * 65, '"ü"', '"a b"', '"a"\n')),
        *({"duration_seconds": number} for number in (float("nan"), float("inf"), -1.0)),
    ],
)
def test_what_would_not_fit_or_is_no_length_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        summary(**change)


WORD = {"word": "hm", "start": None, "end": None, "score": None, "speaker": None, "timing": None}
SEGMENT = {"id": 0, "start": 0.0, "end": 1.0, "text": "hm", "speaker": None, "words": [WORD]}


def test_the_first_keys_are_always_there_and_null_where_a_value_is_unknown() -> None:
    for model, fields in ((Word, WORD), (Segment, SEGMENT)):
        assert json.loads(model.model_validate(fields).model_dump_json()) == fields
        for name in fields:
            with pytest.raises(ValidationError, match=name):
                model.model_validate({key: fields[key] for key in fields.keys() - {name}})


def test_later_keys_are_written_where_they_say_something() -> None:
    word = WORD | {"overlap": True}
    figures = {"avg_logprob": 0.0, "compression_ratio": 0.0, "no_speech_prob": 0.0}
    segment = SEGMENT | {"words": [word], **figures, "flags": ["no_speech", "prompt"]}
    assert json.loads(Segment.model_validate(segment).model_dump_json()) == segment


def test_every_failure_code_has_its_rule() -> None:
    assert set(FAILURES) == set(FailureCode)
    failure = JobFailure.of(FailureCode.AUDIO_URL_EXPIRED, "m" * 1000, Stage.FETCH)
    assert failure.retryable
    assert failure.action == "sign_again"
    assert len(failure.message) == 600


@pytest.mark.parametrize(
    "fields",
    [
        {"executionTimeout": 4_999},
        {"executionTimeout": 604_800_001, "ttl": 604_800_001},
        {"executionTimeout": 60_000, "ttl": 9_999},
        {"executionTimeout": 60_000, "ttl": 59_999},
    ],
)
def test_a_policy_outside_runpods_limits_is_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ExecutionPolicy.model_validate(fields)


def test_final_states_are_told_from_running_ones() -> None:
    running = {state for state in JobState if not state.is_final}
    assert running == {JobState.IN_QUEUE, JobState.IN_PROGRESS, JobState.RUNNING}


@pytest.mark.parametrize(
    "written",
    [
        JobStatus(id="j", status=JobState.COMPLETED),
        summary(),
        JobFailure.of(FailureCode.INTERNAL, "m", Stage.FETCH),
        Progress(stage=Stage.FETCH, percent=1, updated_at=datetime(2026, 11, 1)),
        Segment.model_validate(SEGMENT),
    ],
)
def test_readers_of_documents_ignore_what_a_newer_writer_adds(written: WireModel) -> None:
    newer = written.model_dump(mode="json") | {"of_tomorrow": {"deep": 1}}
    assert type(written).model_validate(newer) == written

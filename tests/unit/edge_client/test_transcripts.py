"""Transcripts: what counts as one, and of which recording."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.errors import TranscriptInvalid
from edge_client.jobs.transcript import Delivered, find_done, find_of_job, parse
from edge_client.services.edge import Edge
from tests.unit.edge_client.samples import SESSION, claim, transcript
from tests.unit.edge_client.servers import S3Server


def test_transcript_of_the_contract_is_read() -> None:
    body = transcript(warnings=["NO_SPEECH"])
    assert parse(body).delivered(len(body)) == Delivered(
        segments_count=1,
        speakers_count=1,
        duration_s=2.0,
        processing_s=0.5,
        language="en",
        warnings=("NO_SPEECH",),
        size_bytes=len(body),
    )


def test_field_or_warning_of_a_newer_worker_does_not_undo_its_work() -> None:
    assert parse(transcript(warnings=["NEW_ONE"], new_field=1)).warnings == ("NEW_ONE",)


def test_whisperx_json_of_the_seeds_pods_counts() -> None:
    segments = [{"start": 0.5, "end": 3, "text": " Hi", "speaker": "SPEAKER_01"}]
    doc = parse(json.dumps({"segments": segments, "language": "en"}).encode())
    assert (doc.speakers, doc.duration_s, doc.request_id) == (("SPEAKER_01",), 3.0, None)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"segments": 1}', b'{"segments": [{"start": 0}]}',
     b'{"segments": [{"start": NaN, "end": 1, "text": ""}]}', transcript()[:-20]],
)  # fmt: skip
def test_anything_else_is_invalid(body: bytes) -> None:
    with pytest.raises(TranscriptInvalid):
        parse(body)


@given(st.binary(max_size=200))
def test_no_bytes_upset_the_reader(body: bytes) -> None:
    with pytest.raises(TranscriptInvalid):
        parse(body)


def test_error_does_not_repeat_the_text() -> None:
    with pytest.raises(TranscriptInvalid) as caught:
        parse(b'{"segments": [{"start": 0, "end": 1, "text": ["secret words"]}]}')
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "segments.0.text" in str(caught.value)


def is_done(edge: Edge, **changes: str) -> bool:
    audio = edge.bucket.head(SESSION.audio_key)
    return find_done(edge.bucket, SESSION, audio, claim(**changes)) is not None


def test_newer_than_the_audio_is_done(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"a")
    s3.put(SESSION.result_key, transcript(), s3.now + timedelta(seconds=1))
    assert is_done(edge, request_id="other")


def test_older_than_the_audio_is_not(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"a")
    s3.put(SESSION.result_key, transcript(), s3.now - timedelta(seconds=1))
    assert not is_done(edge, request_id="other")


def test_audio_replaced_while_its_job_ran_is_not_done(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"replaced")
    s3.put(SESSION.result_key, transcript(), s3.now + timedelta(hours=1))
    assert not is_done(edge, audio_etag='"of the first audio"')


def test_audio_replaced_before_its_worker_read_it_is_done(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"replaced")
    for etag in (now := s3.objects[SESSION.audio_key].etag, f"W/{now}", now.strip('"')):
        s3.put(SESSION.result_key, transcript(audio_etag=etag))
        assert is_done(edge, audio_etag='"of the first audio"')


def test_audio_replaced_after_its_worker_read_it_is_not_done(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"replaced")
    s3.put(SESSION.result_key, transcript(audio_etag='"read"'), s3.now + timedelta(hours=1))
    assert not is_done(edge, audio_etag=s3.objects[SESSION.audio_key].etag)


def test_own_jobs_transcript_is_done_whatever_the_clock(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"a")
    s3.put(SESSION.result_key, transcript(), s3.now - timedelta(hours=1))
    assert is_done(edge, audio_etag=s3.objects[SESSION.audio_key].etag)


def test_invalid_transcript_is_not_done(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.audio_key, b"a")
    s3.put(SESSION.result_key, b"{", s3.now + timedelta(hours=1))
    assert not is_done(edge)


def test_only_the_own_submission_proves_a_job(edge: Edge, s3: S3Server) -> None:
    s3.put(SESSION.result_key, transcript())
    assert find_of_job(edge.bucket, SESSION, claim()) is not None
    assert find_of_job(edge.bucket, SESSION, claim(request_id="r2")) is None

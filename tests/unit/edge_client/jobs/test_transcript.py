"""Transcripts: what counts as one, and of which recording."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge_client.errors import ObjectRefused, TranscriptInvalid
from edge_client.jobs.transcript import Delivered, parse, read
from edge_client.services.edge import Edge
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import SESSION, transcript


def test_transcript_of_the_contract_is_read_and_what_a_newer_worker_adds_ignored() -> None:
    body = transcript(warnings=["NEW_ONE"], new_field=1)
    delivered = Delivered(1, 1, 2.0, 0.5, "en", ("NEW_ONE",), len(body))
    assert Delivered.of(parse(body), len(body)) == delivered
    segments = [{"start": 0.5, "end": 3, "text": " Hi", "speaker": "SPEAKER_01"}]  # WhisperX's
    read = parse(json.dumps({"segments": segments, "language": "en"}).encode())
    assert (read.speakers, read.duration_s, read.request_id) == (("SPEAKER_01",), 3.0, None)


@given(st.binary(max_size=200))
@example(b"[]")
@example(b"{}")
@example(b'{"segments": [{"start": NaN, "end": 1, "text": ""}]}')
@example(transcript()[:-9])
def test_no_bytes_upset_the_reader_and_errors_do_not_repeat_the_text(body: bytes) -> None:
    with pytest.raises(TranscriptInvalid):
        parse(body)
    with pytest.raises(TranscriptInvalid) as caught:
        parse(b'{"segments": [{"start": 0, "end": 1, "text": ["secret words"]}]}')
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"
    assert "segments.0.text" in str(caught.value)


def test_what_is_there_is_read_whatever_it_is(edge: Edge, s3: S3Server) -> None:
    assert read(edge.bucket, SESSION) is None
    s3.put(SESSION.result_key, transcript(audio_etag='"e1"'))
    found = read(edge.bucket, SESSION)
    assert found is not None
    assert (found.etag, found.request_id) == (s3.objects[SESSION.result_key].etag, "r1")
    assert found.delivered is not None
    assert (found.delivered.audio_etag, len(found.sha256)) == ('"e1"', 64)
    s3.put(SESSION.result_key, transcript()[:-9])
    found = read(edge.bucket, SESSION)
    assert found is not None
    assert (found.delivered, found.modified_at) == (None, s3.now)


def test_transcript_of_a_newer_form_is_named_and_neither_done_nor_missing(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.result_key, json.dumps({"schema_version": 2, "parts": []}).encode())
    with pytest.raises(ObjectRefused, match=f"{SESSION.result_key} has version 2"):
        read(edge.bucket, SESSION)

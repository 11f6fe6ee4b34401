"""Outputs are strict JSON, or they do not leave."""

import base64
import gzip
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from bucketscribe_contract import Segment, Transcript
from worker.stages.deliver import MAX_OUTPUT_BYTES, EncodedTranscript, checked_output


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), {1, 2}, datetime.now(UTC), object(), b"bytes"]
)
def test_what_is_no_json_is_refused(value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        checked_output({"value": value})


def test_a_lone_surrogate_is_replaced_not_posted() -> None:
    output = checked_output({"text": "a\ud800b"})
    assert output == {"text": "a?b"}
    json.dumps(output, ensure_ascii=False).encode("utf-8")


def test_an_output_over_runpods_limit_is_refused() -> None:
    with pytest.raises(ValueError, match="exceeds"):
        checked_output({"text": "x" * MAX_OUTPUT_BYTES})


def test_the_compressed_document_is_the_stored_one() -> None:
    segment = Segment(id=0, start=0, end=1, text="naïve 日本", speaker=None, words=())
    document = Transcript(
        segments=(segment,),
        speakers=(),
        language="en",
        language_probability=None,
        duration_seconds=1,
        processing_time_seconds=1,
        models={},
    )
    encoded = EncodedTranscript.of(document)
    assert gzip.decompress(base64.b64decode(encoded.gzip_base64)) == encoded.body
    assert encoded.stored.bytes == len(encoded.body)
    assert Transcript.model_validate_json(encoded.body) == document

"""The job input: what is refused, by which name, and who sees a URL's query."""

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bucketscribe_contract import JobInput, PresignedUrl, RunRequest

SIGNED = (
    "https://bucket.s3.us-east-2.amazonaws.com/users/u%20%2B/audio/sessions/s%25/audio.wav"
    "?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=5ec2e7"
)

LANGUAGES_REFUSED = ("", "e", "-en", "1a", "5ec2e7 ü", "x" * 33)


@pytest.mark.parametrize("text", ["en", "EN-us", "es-419", "zh_Hant", "haitian creole", "yue"])
def test_languages_are_codes_names_and_tags(text: str) -> None:
    assert JobInput(audio_url=SIGNED, language=text).language == text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "audio_url"),
        ({"audio_url": SIGNED, "audio_base64": "AAAA"}, "audio_base64"),
        ({"audio_url": SIGNED, "langauge": "en"}, "langauge"),
        ({"audio_url": SIGNED, "min_speakers": 3, "max_speakers": 2}, "min_speakers"),
        ({"audio_url": SIGNED, "num_speakers": 5, "max_speakers": 2}, "num_speakers"),
        ({"audio_url": SIGNED, "min_speakers": 0}, "min_speakers"),
        *(({"audio_url": SIGNED, "language": text}, "language") for text in LANGUAGES_REFUSED),
        ({"audio_url": SIGNED, "task": "summarize"}, "task"),
        ({"audio_url": SIGNED, "initial_prompt": "x" * 4001}, "initial_prompt"),
        ({"audio_url": SIGNED, "hotwords": "x" * 4001}, "hotwords"),
        ({"audio_url": SIGNED, "clip": {"start_s": 5, "end_s": 5}}, "clip"),
        ({"audio_url": SIGNED, "clip": {"start_s": float("nan"), "end_s": 5}}, "start_s"),
        ({"audio_url": SIGNED, "clip": {"start_s": 0, "end_s": 5, "end": 4}}, "clip.end"),
        ({"audio_url": "ftp://host/key?X-Amz-Signature=5ec2e7"}, "audio_url"),
        ({"audio_url": "https://user:pw@host/key"}, "audio_url"),
        ({"audio_url": "https://host/a b?X-Amz-Signature=5ec2e7"}, "audio_url"),
        ({"audio_url": SIGNED, "result_url": "not a url"}, "result_url"),
        *(
            ({"audio_url": SIGNED, "result_headers": headers}, next(iter(headers)))
            for headers in (
                {"Authorization": "5ec2e7"},
                {"content-type": "5ec2e7"},  # S3 takes any case; one name has one spelling here
                {"If-Match": "5ec2e7\r\nHost: h"},
                {"If-Match": " 5ec2e7"},  # requests refuses it
                {"If-Match": ""},
                {"x-amz-tagging": "5ec2e7=ü"},
                {"x-amz-tagging": "5ec2e7" * 400},
                {"x-amz-acl": None},
            )
        ),
    ],
)
def test_bad_input_names_the_field_and_hides_its_value(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobInput.model_validate(fields)
    assert named in str(caught.value)
    assert "5ec2e7" not in str(caught.value)


def test_a_url_shows_its_query_to_nobody_who_did_not_ask(caplog: pytest.LogCaptureFixture) -> None:
    job = JobInput.model_validate({"audio_url": SIGNED, "result_url": SIGNED})
    request = RunRequest(input=job, webhook="https://edge/hook?secret=5ec2e7")
    with caplog.at_level(logging.INFO):
        logging.getLogger("test").info("%s %r %s", job, request, job.audio_url)
    shown = [repr(job), str(job), f"{job.audio_url}", job.model_dump_json(), repr(request)]
    assert "5ec2e7" not in caplog.text + "".join(shown)
    assert "/audio.wav?***" in repr(job)


def test_the_wire_carries_the_exact_string_that_was_signed() -> None:
    job = JobInput.model_validate({"audio_url": SIGNED})
    sent = json.loads(json.dumps(job.to_wire()))
    assert sent == {"audio_url": SIGNED}
    assert JobInput.model_validate(sent) == job
    assert {job.audio_url} == {PresignedUrl(SIGNED)}


def test_headers_go_over_the_wire_where_they_are_not_the_usual_one() -> None:
    usual = {"Content-Type": "application/json"}
    job = JobInput(audio_url=SIGNED, result_headers=usual)
    assert job.to_wire() == {"audio_url": SIGNED}
    assert JobInput.model_validate(job.to_wire()).result_headers == usual
    headers = {"If-None-Match": "*", "x-amz-acl": "bucket-owner-full-control"}
    job = JobInput.model_validate({"audio_url": SIGNED, "result_headers": headers})
    assert job.to_wire()["result_headers"] == headers  # not one more: S3 would refuse it


@given(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1))
def test_no_url_is_ever_normalised(tail: str) -> None:
    text = "https://bucket.example/" + tail.replace("@", "%40").replace("\\", "%5C")
    try:
        url = PresignedUrl(text)
    except ValueError:
        return
    assert url.reveal() == text
    assert JobInput(audio_url=url).to_wire()["audio_url"] == text

"""What can be wrong with a job, on the real worker: each with its code and its remedy."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest

from bucketscribe_contract import Transcript
from tests.e2e.conftest import Bench
from tests.recordings import SAMPLE_RATE_HZ
from tests.transcript_rules import broken_rules

PREFIX = "users/u/audio/sessions/inputs"


@pytest.fixture(scope="module")
def objects(bench: Bench, short_wav: bytes) -> None:
    """Recordings that are none."""
    silence = short_wav[:40] + (20 * SAMPLE_RATE_HZ * 2).to_bytes(4, "little")
    for name, body in {
        "short.wav": short_wav,
        "text.wav": b"Dear diary, today I recorded nothing at all.\n" * 100,
        "empty.wav": b"",
        "silence.wav": silence + bytes(20 * SAMPLE_RATE_HZ * 2),
        "truncated.wav": short_wav[: len(short_wav) // 2],
        "large.wav": short_wav + bytes(9_000_000),
    }.items():
        bench.put(f"{PREFIX}/{name}", body)


@pytest.mark.usefixtures("objects")
@pytest.mark.parametrize(
    ("job", "code", "named"),
    [
        ({"key": "short.wav", "langauge": "en"}, "INVALID_INPUT", "langauge"),
        ({"key": "text.wav"}, "AUDIO_UNREADABLE", "expected one of wav, mp3"),
        ({"key": "empty.wav"}, "AUDIO_UNREADABLE", "empty"),
        ({"key": "truncated.wav"}, "AUDIO_TRUNCATED", "upload the recording again"),
        ({"key": "large.wav"}, "AUDIO_TOO_LARGE", "MAX_AUDIO_BYTES"),
        ({"key": "missing.wav"}, "AUDIO_NOT_FOUND", "missing.wav"),
        ({"audio_url": "http://8.8.8.8/a.wav?X-Amz-Signature=5ec2e7"}, "URL_NOT_ALLOWED", "https"),
        ({"key": "short.wav", "tamper": True}, "AUDIO_FORBIDDEN", "signature"),
        ({"key": "short.wav", "expired": True}, "AUDIO_URL_EXPIRED", "Sign audio_url again"),
    ],
)
def test_bad_input_has_its_code_and_names_the_remedy(
    bench: Bench, job: dict[str, Any], code: str, named: str
) -> None:
    job = dict(job)
    if key := job.pop("key", None):
        expires_s = 1 if job.get("expired") else 3600
        job["audio_url"] = bench.presign(f"{PREFIX}/{key}", expires_s=expires_s)
    if job.pop("tamper", False):
        head, signature = job["audio_url"].split("X-Amz-Signature=")
        job["audio_url"] = f"{head}X-Amz-Signature={signature[::-1]}"
    if job.pop("expired", False):
        time.sleep(2.1)
    failure = bench.failure(job)
    assert failure.code == code
    assert named in failure.message
    assert "5ec2e7" not in failure.message


@pytest.mark.usefixtures("objects")
def test_silence_is_a_success_without_segments_and_progress_goes_to_s3_where_asked(
    bench: Bench,
) -> None:
    result_key, progress_key = f"{PREFIX}/silence.json", f"{PREFIX}/progress.json"
    status = bench.run(
        {
            "audio_url": bench.presign(f"{PREFIX}/silence.wav"),
            "result_url": bench.presign(result_key, "put_object"),
            "progress_url": bench.presign(progress_key, "put_object"),
        }
    )
    assert status["status"] == "COMPLETED"
    assert status["output"]["warnings"] == ["NO_SPEECH"]
    document = Transcript.model_validate(bench.get_json(result_key))
    assert (document.segments, document.language) == ((), None)
    assert document.duration_seconds == 20.0
    assert set(bench.get_json(progress_key)) == {"stage", "percent", "updated_at"}


def test_diarization_can_be_left_out_and_a_clip_cut(bench: Bench, short_wav: bytes) -> None:
    job = {
        "audio_base64": base64.b64encode(short_wav).decode(),
        "diarize": False,
        "clip": {"start_s": 2.7, "end_s": 5.4},
    }
    document = Transcript.model_validate(bench.run(job)["output"])
    assert broken_rules(document, offset_s=2.7) == []
    assert document.speakers == ()
    assert "diarize" not in document.models
    assert document.segments[0].start == pytest.approx(2.95, abs=0.15)
    assert document.duration_seconds == pytest.approx(2.7)

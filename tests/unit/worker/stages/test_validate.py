"""Validate: one line that names every field and no value; how long a result URL has to live."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bucketscribe_contract import FailureCode, PresignedUrl
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.stages.validate import Speed, check_result_url

URL = "https://8.8.8.8/key?X-Amz-Signature=5ec2e7"


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    """A runtime without models: nothing here gets that far."""
    return Runtime(WorkerSettings(models_dir="nowhere"))


@pytest.mark.parametrize(
    ("raw", "code", "named"),
    [
        ({}, "INVALID_INPUT", "audio_url and audio_base64"),
        (["audio_url"], "INVALID_INPUT", "dictionary"),
        ({"audio_url": URL, "langauge": "en"}, "INVALID_INPUT", "langauge: unknown field"),
        ({"audio_url": URL, "diarize": "perhaps"}, "INVALID_INPUT", "diarize"),
        (
            {"audio_url": URL, "result_headers": {"X-Other": "5ec2e7"}},
            "INVALID_INPUT",
            "result_headers.X-Other: Input should be 'Content-Type', 'If-None-Match'",
        ),
        ({"audio_url": URL, "result_headers": {"X\n": "5ec2e7"}}, "INVALID_INPUT", "headers: "),
        ({"audio_url": URL, "clip": {"start_s": -1, "end_s": 2}}, "INVALID_INPUT", "clip.start_s"),
        ({"audio_url": "ftp://h/"}, "INVALID_INPUT", "audio_url: not an absolute"),
        ({"audio_url": URL.replace("https", "http")}, "URL_NOT_ALLOWED", "audio_url is not https"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    runtime: Runtime, raw: Any, code: str, named: str
) -> None:
    progress = runtime.begin(None, print)
    with pytest.raises(WorkerError) as caught:
        runtime.run(raw, CancelToken(), progress)
    message = str(caught.value)
    assert caught.value.code == FailureCode(code)
    assert named in message
    assert "\n" not in message
    assert "5ec2e7" not in message


def test_a_missing_models_folder_names_its_remedy(runtime: Runtime) -> None:
    with pytest.raises(WorkerError, match="builder.fetch_models") as caught:
        runtime.run({"audio_url": URL}, CancelToken(), runtime.begin(None, print))
    assert caught.value.code is FailureCode.MODEL_UNAVAILABLE


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_URL_HOSTS", "amazonaws.com, .example.org")
    monkeypatch.setenv("MAX_AUDIO_SECONDS", "60")
    settings = WorkerSettings()
    assert settings.allowed_url_hosts == ("amazonaws.com", ".example.org")
    assert settings.max_audio_seconds == 60


def test_speed_is_learnt_from_recordings_that_are_long_enough() -> None:
    speed = Speed(1.0)
    speed.learn(audio_s=5, work_s=50)
    assert speed.needed_s(100) == 180
    speed.learn(audio_s=100, work_s=20)
    assert speed.needed_s(100) == pytest.approx(60)
    speed.learn(audio_s=100, work_s=120)
    assert 0.2 < speed.seconds_per_second < 1.2


def ends_in(seconds: float) -> PresignedUrl:
    """A URL that ends then, by this machine's clock."""
    signed = datetime.now(UTC) + timedelta(seconds=seconds - 100)
    return PresignedUrl(f"https://h/k?X-Amz-Date={signed:%Y%m%dT%H%M%SZ}&X-Amz-Expires=100")


def test_a_result_url_has_to_live_long_enough_by_s3s_clock() -> None:
    speed = Speed(1.0)
    check_result_url(ends_in(100), 10, speed)
    check_result_url(ends_in(-1000), 10, speed, clock_skew_s=-1100)
    with pytest.raises(WorkerError):
        check_result_url(ends_in(100), 10, speed, clock_skew_s=90)
    check_result_url(PresignedUrl("https://h/k?token=1"), 1e6, speed)  # has no end

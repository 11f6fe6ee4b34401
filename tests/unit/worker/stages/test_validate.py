"""Validate: one line that names every field, and no value."""

from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.runtime import Runtime
from worker.settings import WorkerSettings

URL = "https://8.8.8.8/key?X-Amz-Signature=5ec2e7"


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    """A runtime without models: nothing here gets that far."""
    return Runtime(WorkerSettings(models_dir="nowhere"))


@pytest.mark.parametrize(
    ("raw", "code", "named"),
    [
        ({}, "INVALID_INPUT", "audio_url and audio_base64"),
        (None, "INVALID_INPUT", "dictionary"),
        (["audio_url"], "INVALID_INPUT", "dictionary"),
        ({"audio_url": URL, "audio_base64": "QQ=="}, "INVALID_INPUT", "exactly one"),
        ({"audio_url": URL, "langauge": "en"}, "INVALID_INPUT", "langauge: unknown field"),
        ({"audio_url": URL, "min_speakers": 3, "max_speakers": 1}, "INVALID_INPUT", "min_speak"),
        ({"audio_url": "key"}, "INVALID_INPUT", "audio_url: not an absolute http(s) URL"),
        ({"audio_url": URL, "diarize": "perhaps"}, "INVALID_INPUT", "diarize"),
        ({"audio_url": URL.replace("https", "http")}, "URL_NOT_ALLOWED", "audio_url is not https"),
    ],
)
def test_bad_input_is_one_line_that_names_the_field(
    runtime: Runtime, raw: Any, code: str, named: str
) -> None:
    progress = runtime.reporter(print)
    with pytest.raises(WorkerError) as caught:
        runtime.run(raw, CancelToken(), progress)
    message = str(caught.value)
    assert caught.value.code == FailureCode(code)
    assert named in message
    assert "\n" not in message
    assert "5ec2e7" not in message


def test_a_missing_models_folder_names_its_remedy(runtime: Runtime) -> None:
    with pytest.raises(WorkerError, match="builder.fetch_models") as caught:
        runtime.run({"audio_url": URL}, CancelToken(), runtime.reporter(print))
    assert caught.value.code is FailureCode.MODEL_UNAVAILABLE


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLOWED_URL_HOSTS", "amazonaws.com, .example.org")
    monkeypatch.setenv("MAX_AUDIO_SECONDS", "60")
    settings = WorkerSettings()
    assert settings.allowed_url_hosts == ("amazonaws.com", ".example.org")
    assert settings.max_audio_seconds == 60

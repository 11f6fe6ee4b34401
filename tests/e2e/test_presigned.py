"""What somebody who gets hold of a presigned URL can do on a real S3 server, and what not."""

from __future__ import annotations

import json
import re
import time

import pytest
import requests

from tests.e2e.conftest import Bench

SESSION = "users/u/audio/sessions/secret"
OTHER = "users/u/audio/sessions/other"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def urls(bench: Bench) -> dict[str, str]:
    """The URLs of one of two sessions, as the edge client signs them."""
    for session in (SESSION, OTHER):
        bench.put(f"{session}/audio.wav", b"recording")
        bench.put(f"{session}/transcription.json", b"{}")
    printed: dict[str, str] = json.loads(bench.edge_client("presign", SESSION, "--json"))
    return printed


def status(method: str, url: str) -> int:
    """Send a request as somebody without keys."""
    body = b"{}" if method == "PUT" else None
    return requests.request(method, url, data=body, headers=JSON, timeout=10).status_code


def test_each_url_does_its_one_thing_as_often_as_one_likes(
    bench: Bench, urls: dict[str, str]
) -> None:
    """And holds no key that could do more."""
    assert [status("GET", urls["audio_url"]) for _ in range(2)] == [200, 200]
    assert status("PUT", urls["result_url"]) == 200
    assert bench.stack.env["AWS_SECRET_ACCESS_KEY"] not in json.dumps(urls)


@pytest.mark.parametrize(
    ("method", "url", "part", "instead"),
    [
        pytest.param("PUT", "audio_url", "", "", id="recording-replaced"),
        pytest.param("DELETE", "audio_url", "", "", id="recording-deleted"),
        pytest.param("GET", "result_url", "", "", id="transcript-read"),
        pytest.param("DELETE", "result_url", "", "", id="transcript-deleted"),
        pytest.param("GET", "audio_url", "secret/", "other/", id="other-session-read"),
        pytest.param("GET", "audio_url", r"audio\.wav", "transcription.json", id="other-key-read"),
        pytest.param("PUT", "result_url", "secret/", "other/", id="other-session-written"),
        pytest.param("PUT", "result_url", r"transcription\.json", "audio.wav", id="other-key-put"),
        pytest.param("GET", "audio_url", r"/users/[^?]*\?", "/?list-type=2&", id="listed"),
        pytest.param("GET", "audio_url", r"Expires=\d+", "Expires=604799", id="longer"),
        pytest.param("GET", "audio_url", r"Date=\d{4}", "Date=2099", id="later"),
    ],
)
def test_a_url_does_nothing_else(
    bench: Bench, urls: dict[str, str], method: str, url: str, part: str, instead: str
) -> None:
    tampered, count = re.subn(part, instead, urls[url], count=1)
    assert count == 1
    assert status(method, tampered) == 403
    assert bench.read(f"{SESSION}/audio.wav") == b"recording"


def test_an_expired_url_is_refused(bench: Bench) -> None:
    urls = json.loads(bench.edge_client("presign", SESSION, "--expires", "1", "--json"))
    time.sleep(2.1)
    answer = requests.get(urls["audio_url"], timeout=10)
    assert answer.status_code == 403
    assert "expired" in answer.text

"""What somebody who gets hold of a presigned URL can do on a real S3 server, and what not."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qs, urlsplit

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


def status(method: str, url: str, **more: object) -> int:
    """Send a request as somebody without keys."""
    return requests.request(method, url, timeout=10, **more).status_code  # type: ignore[arg-type]


def test_each_url_does_its_one_thing(urls: dict[str, str]) -> None:
    assert status("GET", urls["audio_url"]) == 200
    assert status("PUT", urls["result_url"], data=b"{}", headers=JSON) == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_the_url_of_a_recording_changes_nothing(
    bench: Bench, urls: dict[str, str], method: str
) -> None:
    assert status(method, urls["audio_url"], data=b"x", headers=JSON) == 403
    kept = bench.stack.s3.client().get_object(
        Bucket=bench.stack.s3.bucket, Key=f"{SESSION}/audio.wav"
    )
    assert kept["Body"].read() == b"recording"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_url_of_a_transcript_reads_and_deletes_nothing(
    urls: dict[str, str], method: str
) -> None:
    assert status(method, urls["result_url"], headers=JSON) == 403


@pytest.mark.parametrize("key", [f"{OTHER}/audio.wav", f"{SESSION}/transcription.json"])
def test_no_other_object_can_be_read(urls: dict[str, str], key: str) -> None:
    url = urls["audio_url"].replace(f"{SESSION}/audio.wav", key)
    assert key in url
    assert status("GET", url) == 403


@pytest.mark.parametrize("key", [f"{OTHER}/transcription.json", f"{SESSION}/audio.wav"])
def test_no_other_object_can_be_written(urls: dict[str, str], key: str) -> None:
    url = urls["result_url"].replace(f"{SESSION}/transcription.json", key)
    assert key in url
    assert status("PUT", url, data=b"x", headers=JSON) == 403


def test_the_bucket_cannot_be_listed(urls: dict[str, str]) -> None:
    head, _, query = urls["audio_url"].partition("?")
    bucket = head[: head.index("/users/")]
    assert status("GET", f"{bucket}/?list-type=2&{query}") == 403


@pytest.mark.parametrize("parameter", ["X-Amz-Expires", "X-Amz-Date"])
def test_a_url_cannot_be_made_to_live_longer(urls: dict[str, str], parameter: str) -> None:
    query = parse_qs(urlsplit(urls["audio_url"]).query)
    (value,) = query[parameter]
    longer = {"X-Amz-Expires": "604799", "X-Amz-Date": f"2099{value[4:]}"}[parameter]
    url = urls["audio_url"].replace(f"{parameter}={value}", f"{parameter}={longer}")
    assert url != urls["audio_url"]
    assert status("GET", url) in (400, 403)


def test_an_expired_url_is_refused(bench: Bench) -> None:
    urls = json.loads(bench.edge_client("presign", SESSION, "--expires", "1", "--json"))
    time.sleep(2.1)
    answer = requests.get(urls["audio_url"], timeout=10)
    assert answer.status_code == 403
    assert "expired" in answer.text


def test_no_url_holds_the_secret_key(bench: Bench, urls: dict[str, str]) -> None:
    secret = bench.stack.env["AWS_SECRET_ACCESS_KEY"]
    assert secret not in json.dumps(urls)


def test_a_url_can_be_used_again_while_it_lives(urls: dict[str, str]) -> None:
    """The design note had this otherwise: S3 does not count uses."""
    assert [status("GET", urls["audio_url"]) for _ in range(2)] == [200, 200]

"""Presigned URLs, a recording's length, and lifetimes that agree with each other."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.credentials import RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from edge_client.errors import BadUsage, NotConfigured, RecordingTooLong
from edge_client.services import s3 as aws
from edge_client.services.presign import (
    ASSUMED_BYTES_PER_S,
    MARGIN_S,
    MAX_DURATION_S,
    MAX_ESTIMATE_S,
    MAX_URL_EXPIRY_S,
    QUEUE_S,
    Length,
    check_expiry,
    early_end,
    expiry_of,
    plan_lifetimes,
    recording_length,
    sign_urls,
)
from edge_client.session import Session
from edge_client.settings import load
from tests.unit.edge_client.samples import SESSION, wav


def connection(
    monkeypatch: pytest.MonkeyPatch,
    *,
    bucket: str = "recordings",
    region: str = "us-east-2",
    **more: str,
) -> aws.Connection:
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secretsecret"}
    for name, value in {"COGNITO_S3_BUCKET": bucket, "AWS_REGION": region, **keys, **more}.items():
        monkeypatch.setenv(name, value)
    return aws.connect(load())


@pytest.fixture(scope="module")
def plain() -> Iterator[aws.Connection]:
    """One with nothing special, made once: boto3 takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        yield connection(patch)


@pytest.mark.parametrize(
    ("more", "host", "path"),
    [
        ({"region": "us-east-1"}, "recordings.s3.us-east-1.amazonaws.com", "/users/"),
        ({"region": "eu-central-1"}, "recordings.s3.eu-central-1.amazonaws.com", "/users/"),
        ({"bucket": "my.dotted"}, "s3.us-east-2.amazonaws.com", "/my.dotted/users/"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"}, "127.0.0.1:8333", "/recordings/users/"),
    ],
)
def test_host_is_the_regions_own_and_path_style_where_the_name_cannot_be_in_it(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str], host: str, path: str
) -> None:
    urls = sign_urls(connection(monkeypatch, **more), SESSION, 60)
    for url in (urls.audio_url, urls.result_url):
        parts = urlsplit(url.reveal())
        assert parts.netloc == host
        assert parts.path.startswith(path)


def test_sigv4_and_the_content_type_is_signed_into_the_puts(plain: aws.Connection) -> None:
    urls = sign_urls(plain, SESSION, 77, progress=True)
    assert urls.progress_url is not None
    assert urlsplit(urls.progress_url.reveal()).path == f"/{SESSION.progress_key}"
    for url, signed in (
        (urls.audio_url, "host"),
        (urls.result_url, "content-type;host"),
        (urls.progress_url, "content-type;host"),
    ):
        query = parse_qs(urlsplit(url.reveal()).query)
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert query["X-Amz-SignedHeaders"] == [signed]
        assert query["X-Amz-Expires"] == ["77"]
    assert "Signature" not in repr(urls)
    assert sign_urls(plain, SESSION, 60).progress_url is None


@pytest.mark.parametrize("name", ["a b", "a+b", "50%41", "ünï", "a'b\"&c"])
def test_keys_are_quoted_once_and_exactly(plain: aws.Connection, name: str) -> None:
    url = sign_urls(plain, Session("u 1", name), 60).audio_url.reveal()
    assert unquote(urlsplit(url).path) == f"/users/u 1/audio/sessions/{name}/audio.wav"
    assert " " not in url
    assert "'" not in url  # or the curl line would not paste


def test_expiry_is_read_from_the_url(plain: aws.Connection) -> None:
    urls = sign_urls(plain, SESSION, 3600)
    assert urls.expires_at == expiry_of(urls.result_url)
    left = urls.expires_at - datetime.now(UTC)
    assert timedelta(seconds=3590) < left <= timedelta(seconds=3601)


def test_no_keys_at_all_is_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="AWS_ACCESS_KEY_ID"):
        connection(monkeypatch, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")


def test_long_lived_keys_have_no_early_end(plain: aws.Connection) -> None:
    assert early_end(plain, datetime(2100, 1, 1, tzinfo=UTC)) is None


def until(at: datetime) -> dict[str, str]:
    """What `aws configure export-credentials` writes beside temporary keys."""
    return {"AWS_SESSION_TOKEN": "t" * 40, "AWS_CREDENTIAL_EXPIRATION": at.isoformat()}


def test_temporary_keys_that_end_sooner_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    temporary = connection(monkeypatch, **until(end))
    assert early_end(temporary, end - timedelta(minutes=30)) is None
    warning = early_end(temporary, end + timedelta(minutes=30))
    assert warning is not None
    assert f"{end:%Y-%m-%d %H:%M:%S} UTC" in warning


def test_keys_that_ended_are_not_configured_whoever_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="renew"):
        connection(monkeypatch, **until(datetime.now(UTC) - timedelta(hours=1)))
    temporary = connection(monkeypatch, **until(datetime.now(UTC) + timedelta(hours=1)))
    for name, value in until(datetime.now(UTC) - timedelta(hours=1)).items():
        monkeypatch.setenv(name, value)
    temporary.credentials._expiry_time = datetime.now(UTC) - timedelta(hours=1)  # hours later
    with pytest.raises(NotConfigured, match="renew"):
        temporary.keys_end()
    with pytest.raises(NotConfigured, match="renew"):
        sign_urls(temporary, SESSION, 60)
    with pytest.raises(NotConfigured, match="renew"):
        aws.Bucket(temporary.client, temporary.bucket).head("k")


def test_temporary_keys_of_unknown_end_are_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = connection(monkeypatch, AWS_SESSION_TOKEN="t" * 40)
    assert "temporary" in (early_end(temporary, datetime.now(UTC)) or "")


def test_end_of_fetched_keys_comes_from_botocore_which_renews_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Botocore keeps it in a private attribute: this fails if a new version moves it."""
    now = datetime.now(UTC)
    renewed: dict[str, Any] = {
        "access_key": "AK2",
        "secret_key": "SK2",
        "token": "token2",
        "expiry_time": (now + timedelta(hours=6)).isoformat(),
    }
    end = now + timedelta(hours=2)
    fetched = RefreshableCredentials("AK", "SK", "token", end, lambda: renewed, "test")
    monkeypatch.setattr("boto3.Session.get_credentials", lambda self: fetched)
    role = connection(monkeypatch)
    assert role.keys_end() == end
    fetched._expiry_time = now + timedelta(minutes=5)  # hours later
    assert role.keys_end() == now + timedelta(hours=6)


def test_74_minutes_are_not_killed_by_runpods_default() -> None:
    life = plan_lifetimes(74 * 60 + 7.5, 3600)
    assert life.execution_timeout_s == 300 + 4448
    assert life.policy().execution_timeout_ms == 4_748_000
    assert life.policy().ttl_ms == (7200 + 4748) * 1000
    assert plan_lifetimes(4440, 3600).likely_s == 300 + 2 * 888  # twice what a rented GPU took
    assert plan_lifetimes(5, 1).execution_timeout_s == 600  # a short one keeps RunPod's ten minutes


def test_job_that_is_known_to_need_longer_gets_twice_that() -> None:
    life = plan_lifetimes(5, 1, known_s=4000)
    assert (life.execution_timeout_s, life.likely_s) == (8000, 4000)
    assert life.url_expiry_s > life.ttl_s > 8000
    assert plan_lifetimes(5, 1, known_s=1).execution_timeout_s == 600


@given(st.floats(0, MAX_DURATION_S), st.integers(1, MAX_URL_EXPIRY_S), st.floats(0, 10**7))
def test_lifetimes_agree_and_longer_recordings_never_get_less(
    duration_s: float, expiry_s: int, known_s: float
) -> None:
    life = plan_lifetimes(duration_s, expiry_s, known_s)
    assert life.execution_timeout_s >= max(600, duration_s)
    assert life.ttl_s >= life.execution_timeout_s + QUEUE_S
    assert life.url_expiry_s == life.ttl_s + MARGIN_S
    assert expiry_s <= life.url_expiry_s <= MAX_URL_EXPIRY_S
    life.policy()  # within RunPod's own limits
    assert plan_lifetimes(duration_s / 2, expiry_s, known_s).ttl_s <= life.ttl_s


def test_what_no_url_outlives_is_refused(plain: aws.Connection) -> None:
    with pytest.raises(RecordingTooLong, match=r"split it"):
        plan_lifetimes(MAX_DURATION_S + 1, 3600)
    for expires_s in (0, -1, 604_801):
        with pytest.raises(BadUsage, match="604800"):
            sign_urls(plain, SESSION, expires_s)
    assert [check_expiry(expires_s) for expires_s in (1, 604_800)] == [1, 604_800]


def sized(size: int) -> bytes:
    """A WAV of 3 s whose header says another size."""
    body = bytearray(wav(3))
    body[40:44] = struct.pack("<I", size)
    return bytes(body)


@pytest.mark.parametrize(
    ("head", "object_bytes", "duration_s", "is_estimate"),
    [
        (wav(2.5)[:65536], len(wav(2.5)), 2.5, False),
        (sized(142_320_000), 44 + 142_320_000, 8895.0, False),
        (sized(0), len(wav(3)), 3.0, False),  # the writer did not know: the object says
        (sized(0xFFFFFFFF), len(wav(3)), 3.0, False),
        (wav(4), 44 + 16_000, 1.0, False),  # cut short: what is there counts
        (wav(1), len(wav(1)) + 5000, 1.0, False),  # bytes after the sound do not
        (b"\x1aE\xdf\xa3webm", 60 * ASSUMED_BYTES_PER_S, 60.0, True),
        (b"OggS", 5_000_000_000, MAX_ESTIMATE_S, True),  # stays submittable
    ],
)
def test_length_of_a_recording(
    head: bytes, object_bytes: int, duration_s: float, is_estimate: bool
) -> None:
    assert recording_length(head, object_bytes) == Length(duration_s, is_estimate)


@given(st.sampled_from([b"", b"RIFF\0\0\0\0WAVE"]), st.binary(max_size=300), st.integers(0, 10**12))
def test_any_bytes_have_a_length(start: bytes, head: bytes, object_bytes: int) -> None:
    assert recording_length(start + head, object_bytes).duration_s >= 0

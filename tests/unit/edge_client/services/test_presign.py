"""Presigned URLs, a recording's length, and lifetimes that agree with each other."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from botocore.credentials import RefreshableCredentials
from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract import JobInput, RunRequest
from edge_client.errors import BadUsage, NotConfigured, RecordingTooLong
from edge_client.jobs.callback_url import fill
from edge_client.services import presign
from edge_client.services import s3 as aws
from edge_client.session import Session
from edge_client.settings import load
from tests.unit.edge_client.samples import SESSION, wav


def connection(
    patch: pytest.MonkeyPatch, bucket: str = "recordings", region: str = "us-east-2", **more: str
) -> aws.Connection:
    keys = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secretsecret"}
    for name, value in {"COGNITO_S3_BUCKET": bucket, "AWS_REGION": region, **keys, **more}.items():
        patch.setenv(name, value)
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
    urls = presign.sign_urls(connection(monkeypatch, **more), SESSION, 60)
    for url in (urls.audio_url, urls.result_url):
        parts = urlsplit(url.reveal())
        assert parts.netloc == host
        assert parts.path.startswith(path)


def test_sigv4_and_the_content_type_is_signed_into_the_puts(plain: aws.Connection) -> None:
    urls = presign.sign_urls(plain, SESSION, 77, progress=True)
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
    left = urls.expires_at - datetime.now(UTC)
    assert timedelta(seconds=67) < left <= timedelta(seconds=78)
    assert "Signature" not in repr(urls)
    assert presign.sign_urls(plain, SESSION, 60).progress_url is None


def test_conditions_and_encryption_are_signed_into_the_transcripts_put(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kms = {"S3_SSE": "aws:kms", "S3_SSE_KMS_KEY_ID": "alias/k"}
    encrypted, settings = connection(monkeypatch, **kms), load()
    off = settings.model_copy(update={"conditional_put": False})
    encryption = "x-amz-server-side-encryption;x-amz-server-side-encryption-aws-kms-key-id"
    for condition, name, value in (
        (presign.only_over(None, settings), "if-none-match;", "*"),
        (presign.only_over('"e"', settings), "if-match;", '"e"'),
        (presign.only_over('"e"', off), "", None),
    ):
        urls = presign.sign_urls(encrypted, SESSION, 60, condition, progress=True)
        assert urls.progress_url is not None
        assert list(condition.values()) == [value] * len(condition)
        assert urls.result_headers == settings.put_headers | condition
        for url, also in ((urls.result_url, name), (urls.progress_url, "")):
            query = parse_qs(urlsplit(url.reveal()).query)
            assert query["X-Amz-SignedHeaders"] == [f"content-type;host;{also}{encryption}"]


def test_request_with_three_urls_is_under_2048_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session("512b3590-30b1-707d-ed46-bf68df7b52d5", "session_2025-12-15T02_47_34_213Z")
    keys = {"AWS_ACCESS_KEY_ID": "A" * 20, "S3_SSE": "AES256"}
    real = connection(monkeypatch, bucket="clouddrive-app-bucket", **keys)
    condition = presign.only_over(f'"{"e" * 32}"', load())
    urls = presign.sign_urls(real, session, 604_800, condition, progress=True)
    wishes: Any = {"language": "en", "diarize": False, "min_speakers": 2, "max_speakers": 10}
    for name in ("audio_url", "result_url", "result_headers", "progress_url"):
        wishes[name] = getattr(urls, name)
    job_input = JobInput(request_id="0" * 32, **wishes)
    webhook = fill(f"https://edge.example.com/webhook/{'s' * 43}/{{session}}", session)
    policy = presign.plan_lifetimes(74 * 60, 3600).policy()
    body = json.dumps(RunRequest(input=job_input, policy=policy, webhook=webhook).to_wire())
    assert len(body) < 2048
    assert body.count("X-Amz-Signature=") == 3


@pytest.mark.parametrize("name", ["a b", "a+b", "50%41 ünï", "a'b\"&c"])
def test_keys_are_quoted_once_and_exactly(plain: aws.Connection, name: str) -> None:
    url = presign.sign_urls(plain, Session("u 1", name), 60).audio_url.reveal()
    assert unquote(urlsplit(url).path) == f"/users/u 1/audio/sessions/{name}/audio.wav"
    assert " " not in url
    assert "'" not in url  # or the curl line would not paste


def until(at: datetime) -> dict[str, str]:
    """What `aws configure export-credentials` writes beside temporary keys."""
    return {"AWS_SESSION_TOKEN": "t" * 40, "AWS_CREDENTIAL_EXPIRATION": at.isoformat()}


def test_keys_that_may_end_sooner_are_noticed_and_those_that_ended_not_configured(
    plain: aws.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)
    assert presign.early_end(plain, end) is None
    temporary = connection(monkeypatch, AWS_SESSION_TOKEN="t" * 40)
    assert "nothing says when they end" in (presign.early_end(temporary, end) or "")
    temporary = connection(monkeypatch, **until(end))
    assert presign.early_end(temporary, end - timedelta(minutes=30)) is None
    warning = presign.early_end(temporary, end + timedelta(minutes=30))
    assert f"{end:%Y-%m-%d %H:%M:%S} UTC" in (warning or "")
    ended = end - timedelta(hours=2)
    with pytest.raises(NotConfigured, match="renew"):
        connection(monkeypatch, **until(ended))  # and sets what the keys are renewed from
    temporary.credentials._expiry_time = ended  # hours later
    for call in (
        temporary.keys_end,
        lambda: presign.sign_urls(temporary, SESSION, 60),
        lambda: aws.Bucket(temporary.client, temporary.bucket, {}).head("k"),
    ):
        with pytest.raises(NotConfigured, match="renew"):
            call()
    with pytest.raises(NotConfigured, match="AWS_ACCESS_KEY_ID"):
        connection(monkeypatch, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")


def test_end_of_fetched_keys_comes_from_botocore_and_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore keeps it in a private attribute: this fails if a new version moves it."""
    now = datetime.now(UTC)
    renewed: dict[str, Any] = {"access_key": "AK2", "secret_key": "SK2", "token": "token2"}
    renewed["expiry_time"] = (now + timedelta(hours=6)).isoformat()
    end = now + timedelta(hours=2)
    fetched = RefreshableCredentials("AK", "SK", "token", end, lambda: renewed, "test")
    monkeypatch.setattr("boto3.Session.get_credentials", lambda self: fetched)
    role = connection(monkeypatch)
    assert role.keys_end() == end
    fetched._expiry_time = now + timedelta(minutes=5)  # hours later
    assert role.keys_end() == now + timedelta(hours=6)


@pytest.mark.parametrize(
    ("duration_s", "known_s", "execution_s", "likely_s"),
    [
        (74 * 60 + 7.5, 0, 4748, 2079),  # not killed by RunPod's default of ten minutes
        (5, 0, 600, 302),
        (5, 4000, 8000, 4000),  # an earlier job was killed after 4,000 s
        (5, 301, 602, 302),
    ],
)
def test_job_gets_five_times_what_it_takes_or_twice_what_it_is_known_to_take(
    duration_s: float, known_s: float, execution_s: int, likely_s: int
) -> None:
    life = presign.plan_lifetimes(duration_s, 1, known_s)
    assert (life.execution_timeout_s, life.likely_s) == (execution_s, likely_s)
    assert life.policy().execution_timeout_ms == execution_s * 1000
    assert life.policy().ttl_ms == (7200 + execution_s) * 1000


@given(
    st.floats(0, presign.MAX_DURATION_S),
    st.integers(1, presign.MAX_URL_EXPIRY_S),
    st.floats(0, 10**7),
)
def test_lifetimes_agree_and_longer_recordings_never_get_less(
    duration_s: float, expiry_s: int, known_s: float
) -> None:
    life = presign.plan_lifetimes(duration_s, expiry_s, known_s)
    assert life.execution_timeout_s >= max(600, duration_s)
    assert life.ttl_s >= life.execution_timeout_s + presign.QUEUE_S
    assert life.url_expiry_s == life.ttl_s + presign.MARGIN_S
    assert expiry_s <= life.url_expiry_s <= presign.MAX_URL_EXPIRY_S
    _ = life.policy()  # within RunPod's own limits
    assert presign.plan_lifetimes(duration_s / 2, expiry_s, known_s).ttl_s <= life.ttl_s


def test_what_no_url_outlives_is_refused(plain: aws.Connection) -> None:
    with pytest.raises(RecordingTooLong, match=r"split it"):
        presign.plan_lifetimes(presign.MAX_DURATION_S + 1, 3600)
    for expires_s in (0, -1, 604_801):
        with pytest.raises(BadUsage, match="604800"):
            presign.sign_urls(plain, SESSION, expires_s)
    for expires_s in (1, 604_800):
        assert presign.sign_urls(plain, SESSION, expires_s).expires_s == expires_s


def sized(size: int, whole: bytes) -> bytes:
    """Change what a WAV header says of the sound."""
    return whole[:40] + size.to_bytes(4, "little") + whole[44:]


@pytest.mark.parametrize(
    ("head", "size", "duration_s", "is_estimate"),
    [
        (wav(2.5)[:65536], len(wav(2.5)), 2.5, False),
        *[  # the writer did not know: the object says
            (sized(size, wav(3)), len(wav(3)), 3.0, False)
            for size in (0, 0xFFFFFFFF, 0x7FFFF000, 0x80000000)
        ],
        (wav(4), 44 + 16_000, 1.0, False),  # cut short: what is there counts
        (wav(1) + b"LIST", len(wav(1)) + 4, 1.0, False),  # bytes after the sound do not
        (wav(1) + b"cue \x04\0\0\0none", len(wav(1)) + 12, 1.0, False),
        (sized(6400, wav(9))[:65536], len(wav(9)), 9.0, False),  # unless they are sound
        (b"\x1aE\xdf\xa3webm", 60 * presign.ASSUMED_BYTES_PER_S, 60.0, True),
        (b"OggS", 5_000_000_000, presign.MAX_ESTIMATE_S, True),  # stays submittable
    ],
)
def test_length_of_recording(head: bytes, size: int, duration_s: float, is_estimate: bool) -> None:
    assert presign.recording_length(head, size) == presign.Length(duration_s, is_estimate)

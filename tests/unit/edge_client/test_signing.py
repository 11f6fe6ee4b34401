"""Presigned URLs: SigV4, the region's own host, the exact key, and an end that is true."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from edge_client.errors import BadUsage, NotConfigured
from edge_client.services import s3 as aws
from edge_client.services.presign import early_end, expiry_of, sign_urls
from edge_client.session import Session
from edge_client.settings import load
from tests.unit.edge_client.samples import SESSION


def connection(
    monkeypatch: pytest.MonkeyPatch,
    *,
    bucket: str = "clouddrive-app-bucket",
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


@pytest.mark.parametrize("region", ["us-east-1", "us-east-2", "eu-central-1"])
def test_host_is_the_regions_own(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    urls = sign_urls(connection(monkeypatch, region=region), SESSION, 60)
    for url in (urls.audio_url, urls.result_url):
        assert urlsplit(url.reveal()).netloc == f"clouddrive-app-bucket.s3.{region}.amazonaws.com"


@pytest.mark.parametrize(
    ("more", "host", "path"),
    [
        ({"bucket": "my.dotted.bucket"}, "s3.us-east-2.amazonaws.com", "/my.dotted.bucket/users/"),
        (
            {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:8333"},
            "127.0.0.1:8333",
            "/clouddrive-app-bucket/users/",
        ),
        (
            {"AWS_ENDPOINT_URL_S3": "https://s3.example.com"},
            "s3.example.com",
            "/clouddrive-app-bucket/users/",
        ),
    ],
)
def test_path_style_where_the_name_cannot_be_in_the_host(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, str], host: str, path: str
) -> None:
    parts = urlsplit(sign_urls(connection(monkeypatch, **more), SESSION, 60).audio_url.reveal())
    assert parts.netloc == host
    assert parts.path.startswith(path)


def test_sigv4_and_the_content_type_is_signed_into_the_put(plain: aws.Connection) -> None:
    urls = sign_urls(plain, SESSION, 77)
    get, put = (parse_qs(urlsplit(u.reveal()).query) for u in (urls.audio_url, urls.result_url))
    assert get["X-Amz-Algorithm"] == put["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert get["X-Amz-SignedHeaders"] == ["host"]
    assert put["X-Amz-SignedHeaders"] == ["content-type;host"]
    assert get["X-Amz-Expires"] == put["X-Amz-Expires"] == ["77"]


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


def test_expiry_out_of_range_is_refused(plain: aws.Connection) -> None:
    with pytest.raises(BadUsage):
        sign_urls(plain, SESSION, 604_801)


def test_signed_urls_are_masked_in_repr(plain: aws.Connection) -> None:
    assert "Signature" not in repr(sign_urls(plain, SESSION, 60))


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


def test_end_of_fetched_keys_comes_from_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    """Botocore keeps it in a private attribute: this fails if a new version moves it."""
    from botocore.credentials import RefreshableCredentials

    end = datetime.now(UTC) + timedelta(hours=2)
    fetched = RefreshableCredentials("AK", "SK", "token", end, dict, "test")
    monkeypatch.setattr("boto3.Session.get_credentials", lambda self: fetched)
    assert connection(monkeypatch).keys_end() == end


def test_keys_that_botocore_renews_are_not_taken_for_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from botocore.credentials import RefreshableCredentials

    now = datetime.now(UTC)
    renewed = {
        "access_key": "AK2",
        "secret_key": "SK2",
        "token": "token2",
        "expiry_time": (now + timedelta(hours=6)).isoformat(),
    }
    nearly_over = now + timedelta(minutes=5)
    fetched = RefreshableCredentials("AK", "SK", "token", nearly_over, lambda: renewed, "test")
    monkeypatch.setattr("boto3.Session.get_credentials", lambda self: fetched)
    role = connection(monkeypatch)
    fetched._expiry_time = nearly_over  # hours later
    assert role.keys_end() == now + timedelta(hours=6)


def test_progress_url_is_a_third_put(plain: aws.Connection) -> None:
    urls = sign_urls(plain, SESSION, 60, progress=True)
    assert urls.progress_url is not None
    parts = urlsplit(urls.progress_url.reveal())
    assert parts.path == f"/{SESSION.progress_key}"
    assert parse_qs(parts.query)["X-Amz-SignedHeaders"] == ["content-type;host"]
    assert sign_urls(plain, SESSION, 60).progress_url is None

"""Settings: where they come from, and what is said when they do not."""

from decimal import Decimal
from pathlib import Path

import boto3
import pytest

from bucketscribe_contract.redact import scrub
from edge_client.errors import NotConfigured
from edge_client.services.s3 import connect
from edge_client.settings import QUEUE, STORAGE, load


def test_dot_env_of_the_working_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COGNITO_S3_BUCKET=b1\nAWS_REGION=us-east-2\nOTHER=x\n")
    assert (load().bucket, load().region, load().url_expiry_s) == ("b1", "us-east-2", 3600)


def test_environment_wins_over_the_env_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "f.env"
    file.write_text("COGNITO_S3_BUCKET=from-file\nAWS_REGION=us-east-2\n")
    monkeypatch.setenv("COGNITO_S3_BUCKET", "from-environment")
    assert load(file).bucket == "from-environment"
    assert load(file).region == "us-east-2"


def test_given_env_file_replaces_dot_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("COGNITO_S3_BUCKET=b1\n")
    (tmp_path / "f.env").write_text("AWS_REGION=us-east-2\n")
    assert load(tmp_path / "f.env").bucket is None


def test_missing_env_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotConfigured, match=r"nowhere\.env"):
        load(tmp_path / "nowhere.env")


def test_every_missing_name_is_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    monkeypatch.setenv("RUNPOD_API_KEY", "")  # empty is as good as missing
    with pytest.raises(NotConfigured) as caught:
        load().require(*STORAGE, *QUEUE)
    assert "COGNITO_S3_BUCKET, RUNPOD_ENDPOINT_ID, RUNPOD_API_KEY:" in str(caught.value)
    assert ".env" in str(caught.value)
    assert "AWS_REGION" not in str(caught.value)


def test_secrets_are_masked_and_never_logged(tmp_path: Path) -> None:
    names = ("RUNPOD_API_KEY", "WEBHOOK_SECRET", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    (tmp_path / ".env").write_text("".join(f"{name}=hush-{name}\n" for name in names))
    assert "hush" not in repr(load()) + str(load())
    assert [scrub(f"hush-{name}") for name in names] == ["***"] * 4


@pytest.mark.parametrize("value", ["0", "604801", "soon"])
def test_malformed_expiry_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PRESIGNED_URL_EXPIRY", value)
    with pytest.raises(NotConfigured, match="PRESIGNED_URL_EXPIRY"):
        load()


def test_retries_are_the_seeds_unless_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (load().retry_attempts, load().retry_delay_s, load().lost_answer_s) == (3, 30, 120)
    monkeypatch.setenv("RETRY_ATTEMPTS", "5")
    monkeypatch.setenv("RETRY_DELAY_SECONDS", "0.5")
    monkeypatch.setenv("LOST_ANSWER_SECONDS", "2")
    assert (load().retry_attempts, load().retry_delay_s, load().lost_answer_s) == (5, 0.5, 2)


@pytest.mark.parametrize("name", ["RETRY_ATTEMPTS", "RETRY_DELAY_SECONDS", "LOST_ANSWER_SECONDS"])
def test_malformed_retries_are_named(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "-1")
    with pytest.raises(NotConfigured, match=name):
        load()


def test_the_key_never_travels_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", "http://api.example.com/v2")
    with pytest.raises(NotConfigured, match=r"RUNPOD_ENDPOINT_BASE_URL.*https"):
        load()


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "[::1]:8000"])
def test_loopback_may_be_plain_http(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", f"http://{host}/v2/")
    assert load().runpod_url == f"http://{host}/v2"


KEYS = "AWS_ACCESS_KEY_ID=AKFILE\nAWS_SECRET_ACCESS_KEY=filesecret\nAWS_SESSION_TOKEN=filetoken\n"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, ("AKFILE", "filesecret", "filetoken")),
        ({"AWS_ACCESS_KEY_ID": ""}, ("AKFILE", "filesecret", "filetoken")),
        (
            {"AWS_ACCESS_KEY_ID": "AKOTHER", "AWS_SECRET_ACCESS_KEY": "othersecret"},
            ("AKOTHER", "othersecret", None),  # not the token of other keys
        ),
    ],
)
def test_boto3_finds_the_keys_of_one_source(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    found: tuple[str | None, ...],
) -> None:
    (tmp_path / ".env").write_text(KEYS)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    load()
    keys = boto3.Session().get_credentials()
    assert keys is not None
    assert (keys.access_key, keys.secret_key, keys.token) == found


def test_boto3_finds_the_profile_that_the_file_names(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[edge]\naws_access_key_id = AKPROFILE\naws_secret_access_key = profilesecret\n"
    )
    (tmp_path / ".env").write_text("AWS_PROFILE=edge\nCOGNITO_S3_BUCKET=b\nAWS_REGION=eu-west-1\n")
    credentials = connect(load()).credentials
    assert credentials is not None
    assert credentials.access_key == "AKPROFILE"


def test_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ("AWS_PROFILE", "nobody"), ("COGNITO_S3_BUCKET", "b"), ("AWS_REGION", "x"):
        monkeypatch.setenv(name, value)
    with pytest.raises(NotConfigured, match="AWS_PROFILE"):
        connect(load())


def test_malformed_value_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "https://api.runpod.ai/v2/x?key=hush")
    with pytest.raises(NotConfigured) as caught:
        load()
    assert "hush" not in str(caught.value)


def test_price_of_a_gpu_second_is_exact_and_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().price_per_s is None
    monkeypatch.setenv("RUNPOD_PRICE_PER_SECOND", "0.00031")
    assert load().price_per_s == Decimal("0.00031")


@pytest.mark.parametrize("price", ["-1", "cheap", "nan", "inf"])
def test_malformed_price_is_named(monkeypatch: pytest.MonkeyPatch, price: str) -> None:
    monkeypatch.setenv("RUNPOD_PRICE_PER_SECOND", price)
    with pytest.raises(NotConfigured, match="RUNPOD_PRICE_PER_SECOND"):
        load()

"""Settings: where they come from, and what is said when they do not."""

import os
import re
from decimal import Decimal
from pathlib import Path

import boto3
import pytest

from bucketscribe_contract.redact import scrub
from edge_client.errors import NotConfigured
from edge_client.services.s3 import connect
from edge_client.settings import CREDENTIALS, QUEUE, STORAGE, load


def test_given_file_replaces_dot_env_and_the_environment_wins_over_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("COGNITO_S3_BUCKET=b1\nOTHER=x\n")
    (tmp_path / "f.env").write_text("RUNPOD_ENDPOINT_ID=ep1\nAWS_REGION=us-east-2\n")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    given = load(tmp_path / "f.env")
    assert (given.bucket, given.endpoint_id, given.region) == (None, "ep1", "eu-west-1")
    assert load().bucket == "b1"
    with pytest.raises(NotConfigured, match=r"nowhere\.env"):
        load(tmp_path / "nowhere.env")


def test_the_users_own_file_is_read_where_the_folder_has_none_and_may_lead_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNPOD_API_KEY", "key-of-the-environment")
    for folder, base in ((".config", None), ("xdg", tmp_path / "xdg")):
        if base is not None:
            monkeypatch.setenv("XDG_CONFIG_HOME", str(base))
        path = tmp_path / folder / "bucketscribe" / ".env"
        path.parent.mkdir(parents=True)
        url = f"https://{path.parts[-3].strip('.')}.example"
        path.write_text(f"AWS_REGION=us-east-2\nRUNPOD_ENDPOINT_BASE_URL={url}\n")
        assert (load().region, load().runpod_url) == ("us-east-2", url)
        monkeypatch.delenv("RUNPOD_ENDPOINT_BASE_URL")
    monkeypatch.delenv("AWS_REGION")
    (tmp_path / ".env").write_text("COGNITO_S3_BUCKET=b1\n")
    assert (load().bucket, load().region) == ("b1", None)


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


def test_amounts_are_read_and_loopback_may_be_plain_http(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    amounts = "RETRY_ATTEMPTS=5\nRETRY_DELAY_SECONDS=0.5\nLOST_ANSWER_SECONDS=2\n"
    for host in ("127.0.0.1:8000", "localhost:8000", "[::1]:8000"):
        monkeypatch.setenv("RUNPOD_ENDPOINT_BASE_URL", f"http://{host}/v2/")
        (tmp_path / ".env").write_text(f"{amounts}RUNPOD_PRICE_PER_SECOND=0.00031\n")
        assert (load().retry_attempts, load().lost_answer_s) == (5, 2)
        assert 1.6 <= load().retry_pause_s(2) <= 2.4
        assert (load().price_per_s, load().runpod_url) == (Decimal("0.00031"), f"http://{host}/v2")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("PRESIGNED_URL_EXPIRY", ("0", "604801", "soon")),
        ("RETRY_ATTEMPTS", ("-1",)),
        ("RETRY_DELAY_SECONDS", ("-1",)),
        ("LOST_ANSWER_SECONDS", ("-1",)),
        ("RUNPOD_PRICE_PER_SECOND", ("-1", "cheap", "nan", "inf")),
        ("RUNPOD_ENDPOINT_BASE_URL", ("http://api.example.com/v2",)),  # the key travels in it
        ("AWS_ENDPOINT_URL_S3", ("s3.example.com", "https://", "https://u:hush@s3", "s3://b")),
        ("AWS_ENDPOINT_URL", ("https://a.r2.example.com/recordings", "https://s3?hush")),
        ("AWS_REGION", ("EU (Frankfurt) eu-central-1", "eu-central-1a\nx", "US_EAST")),
        ("COGNITO_S3_BUCKET", ("s3://recordings", "recordings/users", "arn:aws:s3:::recordings")),
        ("COGNITO_S3_BUCKET", ("arn:aws:s3::123456789012:accesspoint/abc.mrap",)),
        ("AWS_CA_BUNDLE", ("/no/such/file",)),
        ("S3_REQUEST_PAYER", ("me",)),
        ("S3_CONDITIONAL_PUT", ("perhaps",)),
        ("S3_SSE", ("none", "aes256")),
        ("S3_SSE_KMS_KEY_ID", ("hush hush", "a\u00fc")),
        ("RUNPOD_ENDPOINT_ID", ("https://api.runpod.ai/v2/x?key=hush", "hush hush", "hüsh")),
        ("RUNPOD_API_KEY", ("Bearer hush", '"hush"', "hush\nhush", "hüsh")),
        ("AWS_SECRET_ACCESS_KEY", ("hush hush", "'hush'")),
    ],
)
def test_malformed_value_is_named_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, values: tuple[str, ...]
) -> None:
    for value in values:
        monkeypatch.setenv(name, value)
        with pytest.raises(NotConfigured, match=name) as caught:
            load()
        assert not re.search("h[uü]sh", str(caught.value))


def test_what_was_pasted_around_a_value_is_stripped_for_boto3_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text('RUNPOD_API_KEY=" rpa_1\r\n"\n')
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AK1 ")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret1\n")
    monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "\tep1 ")
    monkeypatch.setenv("COGNITO_S3_BUCKET", "  ")
    found, keys = load(), boto3.Session().get_credentials()
    assert found.api_key is not None
    assert keys is not None
    assert (found.api_key.get_secret_value(), found.endpoint_id) == ("rpa_1", "ep1")
    assert (found.bucket, keys.access_key, keys.secret_key) == (None, "AK1", "secret1")


def test_misspelt_setting_is_warned_of_and_another_programs_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {
        "RUNPOD_KEY": "RUNPOD_API_KEY",
        "RETRY_ATEMPTS": "RETRY_ATTEMPTS",
        "AWS_SECRET_KEY": "AWS_SECRET_ACCESS_KEY",
        "AWS_ENDPOINT_S3": "AWS_ENDPOINT_URL_S3",
    }
    right = ("HF_TOKEN", "MAX_AUDIO_SECONDS", "AWS_PROFILE", "retry_attempts")
    (tmp_path / ".env").write_text("".join(f"{name}=1\n" for name in (*wrong, *right)))
    load()
    assert [record.args for record in caplog.records] == [
        (Path(".env"), name, meant) for name, meant in wrong.items()
    ]


@pytest.mark.parametrize(
    ("lines", "headers"),
    [
        ("", {}),
        ("S3_SSE=AES256\n", {"": "AES256"}),
        ("S3_SSE=aws:kms\n", {"": "aws:kms"}),
        (
            "S3_SSE_KMS_KEY_ID=alias/k\nS3_SSE=aws:kms\n",
            {"": "aws:kms", "-aws-kms-key-id": "alias/k"},
        ),
    ],
)
def test_a_buckets_encryption_is_sent_with_every_put(
    tmp_path: Path, lines: str, headers: dict[str, str]
) -> None:
    (tmp_path / ".env").write_text(lines)
    encryption = {f"x-amz-server-side-encryption{name}": each for name, each in headers.items()}
    assert load().put_headers == {"Content-Type": "application/json"} | encryption


KEYS = "AWS_ACCESS_KEY_ID=AKFILE\nAWS_SECRET_ACCESS_KEY=filesecret\nAWS_SESSION_TOKEN=filetoken\n"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({}, ["AKFILE", "filesecret", "filetoken"]),
        ({"AWS_ACCESS_KEY_ID": " "}, ["AKFILE", "filesecret", "filetoken"]),
        ({"AWS_ACCESS_KEY_ID": "AK2", "AWS_SECRET_ACCESS_KEY": "other"}, ["AK2", "other", None]),
    ],
)
def test_boto3_finds_the_keys_of_one_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: list[str | None]
) -> None:
    (tmp_path / ".env").write_text(KEYS)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    load()
    keys = boto3.Session().get_credentials()
    assert keys is not None
    assert [keys.access_key, keys.secret_key, keys.token] == found


def test_boto3_finds_the_profile_that_the_file_names(tmp_path: Path) -> None:
    env_file = tmp_path / ".env"
    env_file.write_text("AWS_PROFILE=edge\nCOGNITO_S3_BUCKET=b\nAWS_REGION=eu-west-1\n")
    with pytest.raises(NotConfigured, match="AWS_PROFILE"):
        connect(load())
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[edge]\naws_access_key_id = AKPROFILE\naws_secret_access_key = profilesecret\n"
    )
    assert connect(load()).credentials.access_key == "AKPROFILE"


def test_keys_of_the_environment_are_not_mixed_with_those_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(KEYS)
    monkeypatch.setenv("AWS_PROFILE", "edge")
    load()
    assert [name for name in CREDENTIALS if name in os.environ] == ["AWS_PROFILE"]


@pytest.mark.parametrize(
    ("name", "url", "key"),
    [
        ("RUNPOD_ENDPOINT_BASE_URL", "https://thief.example/v2", "RUNPOD_API_KEY"),
        ("AWS_ENDPOINT_URL_S3", "https://thief.example", "AWS_ACCESS_KEY_ID"),
        ("AWS_ENDPOINT_URL", "https://thief.example", "AWS_SESSION_TOKEN"),
    ],
)
def test_a_folders_file_does_not_lead_keys_of_the_environment_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, url: str, key: str
) -> None:
    path = tmp_path / ".env"
    path.write_text(f"{name}={url}\n")
    load()  # no key is there to lead away
    del os.environ[name]
    monkeypatch.setenv(key, "hush12345")
    with pytest.raises(NotConfigured, match=f"{name} in .env would lead {key}.*{url}.*--env-file"):
        load()
    assert name not in os.environ
    load(path)  # the user named it
    del os.environ[name]
    monkeypatch.delenv(key)
    path.write_text(f"{name}={url}\n{key}=hush12345\n")
    load()


def test_a_file_that_everybody_may_write_and_other_programs_variables(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("RETRY_ATTEMPTS=2\nHTTPS_PROXY=http://thief.example\n")
    path.chmod(0o666)
    for named in (None, path):
        with pytest.raises(NotConfigured, match="everybody may write .*chmod 600"):
            load(named)
    path.chmod(0o664)
    assert (load().retry_attempts, "HTTPS_PROXY" in os.environ) == (2, False)

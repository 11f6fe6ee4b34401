"""The client's settings: the environment, and under it an env file.

The file is ``--env-file`` or else the first that exists of ``.env`` in the working directory and in
the user's configuration. `NotConfigured` names every variable that is missing or malformed. What
the file adds is put into this process's environment, where boto3 finds keys and profile itself.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import (
    Field,
    FilePath,
    PlainValidator,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from bucketscribe_contract.redact import register
from edge_client.errors import NotConfigured
from edge_client.session import DEFAULT, RecordingPattern

log = logging.getLogger(__name__)
STORAGE = ("COGNITO_S3_BUCKET", "AWS_REGION")
QUEUE = ("RUNPOD_ENDPOINT_ID", "RUNPOD_API_KEY")
AWS_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
CREDENTIALS = (*AWS_KEYS, "AWS_CREDENTIAL_EXPIRATION", "AWS_PROFILE")
"""All come from one source: the environment, or the file."""
_WORDS = {
    "region": ("[a-z0-9-]+", "the region's code alone, such as eu-central-1"),
    "endpoint_id": ("[A-Za-z0-9_-]+", "the bare id, such as abc123xyz"),
}
JITTER = 0.2
MAX_URL_EXPIRY_S = 604_800
"""Seven days: the longest a SigV4 URL can live (S3, "Sharing objects with presigned URLs"), and
RunPod's limit for executionTimeout and ttl."""


class Settings(BaseSettings):
    """What the client needs to know. Secrets are masked in ``repr``."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    bucket: str | None = Field(None, validation_alias="COGNITO_S3_BUCKET")
    region: str | None = Field(None, validation_alias="AWS_REGION")
    url_expiry_s: int = Field(
        3600, validation_alias="PRESIGNED_URL_EXPIRY", ge=1, le=MAX_URL_EXPIRY_S
    )
    recordings: Annotated[RecordingPattern, NoDecode, PlainValidator(RecordingPattern)] = Field(
        DEFAULT, validation_alias="RECORDING_PATTERN", validate_default=False
    )
    endpoint_id: str | None = Field(None, validation_alias="RUNPOD_ENDPOINT_ID")
    api_key: SecretStr | None = Field(None, validation_alias="RUNPOD_API_KEY")
    runpod_url: str = Field("https://api.runpod.ai/v2", validation_alias="RUNPOD_ENDPOINT_BASE_URL")
    s3_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL_S3")
    aws_url: str | None = Field(None, validation_alias="AWS_ENDPOINT_URL")
    """Where ``AWS_ENDPOINT_URL_S3`` is not set; boto3 looks for it, and into the profile."""
    ca_bundle: FilePath | None = Field(None, validation_alias="AWS_CA_BUNDLE")
    """Certificates that S3 and RunPod are verified with: a company's proxy has its own."""
    request_payer: Literal["requester"] | None = Field(None, validation_alias="S3_REQUEST_PAYER")
    conditional_put: bool = Field(True, validation_alias="S3_CONDITIONAL_PUT")
    sse: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = Field(
        None, validation_alias="S3_SSE"
    )
    sse_kms_key_id: str | None = Field(
        None, validation_alias="S3_SSE_KMS_KEY_ID", pattern=r"^[!-~]{1,2048}$"
    )
    webhook_secret: SecretStr | None = Field(None, validation_alias="WEBHOOK_SECRET")
    """In the path of `edge-client webhook serve`."""
    retry_attempts: int = Field(3, validation_alias="RETRY_ATTEMPTS", ge=1, le=20)
    retry_delay_s: float = Field(30.0, validation_alias="RETRY_DELAY_SECONDS", ge=0, le=3600)
    lost_answer_s: float = Field(120.0, validation_alias="LOST_ANSWER_SECONDS", ge=0, le=86_400)
    """How long an endpoint has to be idle to prove that a submission whose answer was lost is not
    there. RunPod's proxy cuts requests at 100 s."""
    queue_floor: int = Field(20, validation_alias="QUEUE_FLOOR", ge=1, le=10_000)
    """So many jobs of a batch may wait for a worker, however slow it goes: an endpoint that scales
    by requests or by delay has to see some."""
    price_per_s: Decimal | None = Field(None, validation_alias="RUNPOD_PRICE_PER_SECOND", ge=0)
    """Of a GPU second, in any currency: `batch` then says what its jobs cost."""

    @field_validator("runpod_url")
    @classmethod
    def _key_travels_encrypted(cls, url: str) -> str:
        if urlsplit(url).scheme == "https" or is_loopback_http(url):
            return url.rstrip("/")
        raise ValueError("must be an https URL: the API key travels in it")

    @field_validator("s3_url", "aws_url")
    @classmethod
    def _s3_is_a_bare_url(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https://s3")
        if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError("must be a URL, such as https://s3.example.com")
        if parts.path.strip("/") or parts.query or parts.fragment:
            bare = f"{parts.scheme}://{parts.netloc}"
            raise ValueError(f"must be {bare} alone: the bucket goes into COGNITO_S3_BUCKET")
        return url

    @field_validator("region", "endpoint_id")
    @classmethod
    def _is_one_word(cls, value: str | None, info: ValidationInfo) -> str | None:
        form, what = _WORDS[info.field_name or ""]
        if value is not None and not re.fullmatch(form, value):
            raise ValueError(f"must be {what}")
        return value

    @field_validator("bucket")
    @classmethod
    def _bucket_is_a_name(cls, bucket: str | None) -> str | None:
        if bucket is None or re.fullmatch(r"[A-Za-z0-9._-]{1,255}", bucket):
            return bucket
        if not re.fullmatch(r"arn:[a-z0-9-]+:s3(-\w+)?:[a-z0-9-]*:\d{12}:[\w:./-]+", bucket):
            raise ValueError("must be the bucket's bare name, or an access point's ARN")
        if not bucket.split(":")[3]:
            raise ValueError("a Multi-Region Access Point needs SigV4A: give a bucket of it")
        return bucket

    @property
    def put_headers(self) -> dict[str, str]:
        """What every PUT is sent with: the content type, and the bucket's encryption."""
        headers = {
            "Content-Type": "application/json",
            "x-amz-server-side-encryption": self.sse,
            "x-amz-server-side-encryption-aws-kms-key-id": self.sse_kms_key_id,
        }
        return {name: value for name, value in headers.items() if value is not None}

    def retry_pause_s(self, before: int) -> float:
        """Return how long to back off: twice as long each time; jitter parts the edge boxes."""
        return self.retry_delay_s * 2.0**before * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - no secret

    def require(self, *names: str) -> None:
        """Raise `NotConfigured` naming all of these (`STORAGE`, `QUEUE`) that have no value."""
        missing = [name for name in names if getattr(self, _FIELD_OF[name]) is None]
        if missing:
            raise NotConfigured(
                f"not set: {', '.join(missing)}: put NAME=value lines into .env in this directory "
                f"or else {_users_file()}, a file given with --env-file, or the environment"
            )


_FIELD_OF = {str(field.validation_alias): name for name, field in Settings.model_fields.items()}


def is_loopback_http(url: str) -> bool:
    """Tell whether a URL is http on this machine: the one place where secrets travel in clear."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname == "localhost":
        return parts.scheme == "http"
    try:
        return ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def _users_file() -> Path:
    """Return the user's own env file (XDG Base Directory)."""
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111
    return Path(config, "bucketscribe", ".env")


def load(env_file: Path | None = None) -> Settings:
    """Read the settings, from ``env_file`` or else ``.env``; raises `NotConfigured`."""
    if env_file is not None and not env_file.is_file():
        raise NotConfigured(f"no env file {env_file}: check --env-file")
    here = Path(".env")
    path = env_file or (here if here.exists() else _users_file())
    try:
        values = dotenv_values(path, encoding="utf-8")
        _warn_of_misspelt(path, values)
        if values:
            _check_trust(path, values, is_named=path != here)
        _put_under_environment(values)
        _strip_environment()
        settings = Settings()
    except ValidationError as exc:
        errors = exc.errors(include_input=False)
        problems = "; ".join(f"{error['loc'][0]}: {error['msg']}" for error in errors)
        raise NotConfigured(f"malformed settings: {problems}") from None  # the cause shows values
    except (OSError, ValueError) as exc:
        raise NotConfigured(f"cannot read {path}: {type(exc).__name__}") from exc
    for secret in (settings.api_key, settings.webhook_secret):
        register(secret.get_secret_value() if secret else None)
    for name in AWS_KEYS[1:]:
        register(os.environ.get(name))
    return settings


_KEYS_SENT_TO = {
    "RUNPOD_ENDPOINT_BASE_URL": ("RUNPOD_API_KEY",),
    "AWS_ENDPOINT_URL_S3": CREDENTIALS,
    "AWS_ENDPOINT_URL": CREDENTIALS,
}


def _given() -> set[str]:
    return {name for name, value in os.environ.items() if value.strip()}


def _check_trust(path: Path, values: Mapping[str, str | None], *, is_named: bool) -> None:
    """Refuse a file that somebody else may have written, where it could lead a key away.

    A ``.env`` comes with any folder that one unpacks: what it says of where a key goes counts only
    with a key of its own, or if the user names the file.
    """
    if path.stat().st_mode & 0o002:
        raise NotConfigured(f"everybody may write {path}: chmod 600 {path}")
    given = _given()
    for name, keys in _KEYS_SENT_TO.items():
        sent = given.intersection(keys)
        if values.get(name) and name not in given and sent and not is_named:
            raise NotConfigured(
                f"{name} in {path} would lead {min(sent)} of the environment to {values[name]}: "
                f"set both in one place, or say --env-file {path}"
            )


def _put_under_environment(values: Mapping[str, str | None]) -> None:
    """Set what the environment does not say; of other programs' variables nothing.

    AWS keys of the file stay away from any of the environment.
    """
    given = _given()
    if given.intersection(CREDENTIALS):
        given.update(CREDENTIALS)
    for name, value in values.items():
        if value and name not in given and (name in _FIELD_OF or name.startswith("AWS_")):
            os.environ[name] = value


def _warn_of_misspelt(path: Path, names: Iterable[str]) -> None:
    """Name what is nearly a setting; what is like none of them is another program's."""
    known = {*_FIELD_OF, *CREDENTIALS}
    for name in names:
        (near,) = get_close_matches(name.upper(), known, 1, 0.7) or [name.upper()]
        if near != name.upper():
            log.warning("%s: %s is no setting of this client: is %s meant?", path, name, near)


def _strip_environment() -> None:
    """Strip what was pasted with a setting or a key, in the environment, where boto3 looks."""
    for name in {*_FIELD_OF, *CREDENTIALS} & os.environ.keys():
        os.environ[name] = os.environ[name].strip()
    keys = ("RUNPOD_API_KEY", *AWS_KEYS)
    wrong = [n for n in keys if not re.fullmatch(r"[!#-&(-~]*", os.environ.get(n, ""))]
    if wrong:
        text = "a key is one word without quotes: paste it again"
        raise NotConfigured(f"malformed settings: {', '.join(wrong)}: {text}")

"""Keys and an S3 client that signs as every S3 server accepts.

SigV4 always and the region's own host: boto3's default gives some regions the legacy global
host, which answers presigned URLs of new buckets with a redirect that breaks the signature.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from edge_client.errors import NotConfigured
from edge_client.settings import STORAGE, Settings

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from mypy_boto3_s3 import S3Client

CONNECTIONS = 32
"""At most. Up to 24 threads of a batch speak to S3; botocore keeps 10 and drops the others."""


@dataclass(frozen=True)
class Connection:
    """An S3 client, and what is known of the keys behind it.

    Attributes:
        temporary: The keys come with a session token.
        keys_end: When temporary keys stop working, if anybody said so.
    """

    client: S3Client
    bucket: str
    temporary: bool
    keys_end: datetime | None
    credentials: Credentials | None = field(default=None, repr=False)

    def current_end(self) -> datetime | None:
        """Return when the keys that sign now stop working, None if never or unknown.

        Keys that botocore fetched itself are renewed when their end is near: what was read at
        the start is not true for ever.
        """
        if not self.temporary or self.credentials is None:
            return self.keys_end
        self.credentials.get_frozen_credentials()
        return _end_of(self.credentials) or self.keys_end


def connect(settings: Settings) -> Connection:
    """Make the S3 client; no call is made.

    Raises:
        NotConfigured: Bucket, region or keys are missing.
    """
    settings.require(*STORAGE)
    bucket = settings.bucket or ""
    try:
        session = _session(settings)
        credentials = session.get_credentials()
    except BotoCoreError as exc:
        raise NotConfigured(f"AWS keys: {exc}: check AWS_PROFILE and ~/.aws") from exc
    if credentials is None:
        raise NotConfigured(
            "no AWS keys: put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into .env or the "
            "environment, or set AWS_PROFILE"
        )
    client = session.client(
        "s3", endpoint_url=settings.s3_url, config=_config(bucket, settings.s3_url is not None)
    )
    temporary = credentials.token is not None  # fetches, or renews, keys that botocore looks after
    end = _end_of(credentials) or settings.credentials_end
    return Connection(client, bucket, temporary, end if temporary else None, credentials)


def _end_of(credentials: Credentials) -> datetime | None:
    """Return when keys end that botocore fetched itself: it tells that in this attribute only."""
    return getattr(credentials, "_expiry_time", None)


def _session(settings: Settings) -> boto3.Session:
    if settings.access_key_id and settings.secret_access_key:
        token = settings.session_token
        return boto3.Session(
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=settings.secret_access_key.get_secret_value(),
            aws_session_token=token.get_secret_value() if token else None,
            region_name=settings.region,
        )
    return boto3.Session(profile_name=settings.profile, region_name=settings.region)


def _config(bucket: str, custom_endpoint: bool) -> Config:
    """Return the client's configuration.

    Path style where the bucket's name in the host would break TLS (dots) or DNS (other servers).
    Checksums only where S3 asks for them: other S3 servers do not know all of boto3's.
    """
    path_style = custom_endpoint or "." in bucket
    return Config(
        signature_version="s3v4",
        s3={
            "addressing_style": "path" if path_style else "virtual",
            "us_east_1_regional_endpoint": "regional",
        },
        max_pool_connections=CONNECTIONS,
        connect_timeout=5,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )

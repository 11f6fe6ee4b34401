"""The presigned URLs of a session.

Takes a session and a lifetime; returns `SignedUrls`. Signing needs no network. The PUT is signed
for ``Content-Type: application/json``, so S3 refuses any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from botocore.exceptions import BotoCoreError

from contract import PresignedUrl
from edge_client.aws import Connection
from edge_client.errors import KeysEndTooSoon, NotConfigured
from edge_client.layout import Session
from edge_client.lifetimes import Lifetimes, check_expiry

RESULT_CONTENT_TYPE = "application/json"


@dataclass(frozen=True)
class SignedUrls:
    """A GET for the recording and a PUT for the transcript, masked in ``repr``."""

    audio_url: PresignedUrl
    result_url: PresignedUrl
    expires_s: int
    expires_at: datetime
    progress_url: PresignedUrl | None = None


def sign(
    connection: Connection, session: Session, expires_s: int, *, progress: bool = False
) -> SignedUrls:
    """Sign a session's URLs.

    Args:
        connection: From `edge_client.aws.connect`.
        session: Whose recording and transcript.
        expires_s: 1 to 604,800.
        progress: Sign a PUT for the progress file, too.

    Raises:
        BadUsage: ``expires_s`` is out of range.
        NotConfigured: The keys cannot be had.
    """
    check_expiry(expires_s)
    audio = _presign(connection, "get_object", {"Key": session.audio_key}, expires_s)
    result = _presign_put(connection, session.result_key, expires_s)
    third = _presign_put(connection, session.progress_key, expires_s) if progress else None
    return SignedUrls(audio, result, expires_s, expiry_of(audio), third)


def _presign_put(connection: Connection, key: str, expires_s: int) -> PresignedUrl:
    params = {"Key": key, "ContentType": RESULT_CONTENT_TYPE}
    return _presign(connection, "put_object", params, expires_s)


def _presign(
    connection: Connection, method: str, params: dict[str, str], expires_s: int
) -> PresignedUrl:
    try:
        url = connection.client.generate_presigned_url(
            method, Params={"Bucket": connection.bucket, **params}, ExpiresIn=expires_s
        )
    except BotoCoreError as exc:
        raise NotConfigured(f"cannot sign: {exc}: check the AWS keys") from exc
    return PresignedUrl(url)


def expiry_of(url: PresignedUrl) -> datetime:
    """Return when a URL's signature ends, as the URL itself says."""
    query = parse_qs(urlsplit(url.reveal()).query)
    signed_at = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return signed_at + timedelta(seconds=int(query["X-Amz-Expires"][0]))


def early_end(connection: Connection, expires_at: datetime) -> str | None:
    """Say so if temporary keys end a URL sooner than its signature does.

    Returns:
        One line for the user, or None if the URL lives as long as it says.
    """
    if not connection.temporary:
        return None
    ends = connection.current_end()
    if ends is None:
        return (
            "the AWS keys are temporary and nothing says when they end; the URLs end with them "
            "(AWS_CREDENTIAL_EXPIRATION would tell)"
        )
    if ends >= expires_at:
        return None
    return (
        f"the AWS keys end at {ends:%Y-%m-%d %H:%M:%S %Z}, before the URLs would "
        f"({expires_at:%Y-%m-%d %H:%M:%S %Z}): a job that takes longer fails; use longer-lived keys"
    )


def within_keys(connection: Connection, life: Lifetimes, now: datetime) -> Lifetimes:
    """Shorten a job's lifetimes to those of temporary keys.

    Raises:
        KeysEndTooSoon: They end before even a job that starts at once has likely ended.
    """
    ends = connection.current_end()
    if ends is None:
        return life
    left_s = int((ends - now).total_seconds())
    if left_s < life.likely_s:
        raise KeysEndTooSoon(
            f"the AWS keys end at {ends:%Y-%m-%d %H:%M:%S %Z}, in {max(0, left_s)} s, and the URLs "
            f"with them; this recording needs some {life.likely_s} s: renew the keys (`aws sso "
            "login`, or a longer --duration-seconds), or use an IAM user's long-lived ones"
        )
    return life.ending_within(left_s)

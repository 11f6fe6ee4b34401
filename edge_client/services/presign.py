"""Presigned URLs, and how long a job, its place in RunPod's queue and its URLs live.

Takes a session and its recording's length, which a WAV header gives exactly and an object's size
roughly; returns `Lifetimes` and `SignedUrls`. Signing needs no network. Raises `BadUsage`,
`RecordingTooLong`, `KeysEndTooSoon` and `NotConfigured`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import parse_qs, urlsplit

from bucketscribe_contract import ExecutionPolicy, PresignedUrl
from bucketscribe_contract.wav import NotWav, parse_wav
from edge_client.errors import BadUsage, KeysEndTooSoon, RecordingTooLong
from edge_client.services import s3
from edge_client.services.s3 import Connection
from edge_client.session import Session
from edge_client.settings import MAX_URL_EXPIRY_S, Settings

STARTUP_S = 300
"""Covers a slow download."""
SPEED_FACTOR = 1.0
"""Five times what a rented GPU took: 892 s for 4,447 s of audio. RunPod's default of 10 minutes
kills such a job."""
LIKELY_FACTOR = 0.4
"""Twice what that GPU took."""
KNOWN_FACTOR = 2.0
MIN_EXECUTION_S = 600
QUEUE_S = 7_200
MARGIN_S = 900
"""Lets the last PUT start at the end of the ttl, on clocks that differ by minutes."""
MAX_DURATION_S = (MAX_URL_EXPIRY_S - MARGIN_S - QUEUE_S - STARTUP_S) / SPEED_FACTOR


@dataclass(frozen=True)
class Lifetimes:
    """What one submission is given, in whole seconds.

    Attributes:
        likely_s: How long the job will take once it runs, generously: no limit, but what
            temporary keys must outlive at least.
    """

    execution_timeout_s: int
    ttl_s: int
    url_expiry_s: int
    likely_s: int

    def policy(self) -> ExecutionPolicy:
        """Return what RunPod is told, in its milliseconds."""
        timeout_ms, ttl_ms = self.execution_timeout_s * 1000, self.ttl_s * 1000
        return ExecutionPolicy(execution_timeout_ms=timeout_ms, ttl_ms=ttl_ms)


def plan_lifetimes(duration_s: float, least_expiry_s: int, known_s: float = 0.0) -> Lifetimes:
    """Compute the lifetimes of one job.

    executionTimeout = max(600 s, 300 s + 1.0 x duration)
    ttl              = 7,200 s in the queue + executionTimeout, or more if the URLs live longer
    URL expiry       = ttl + 900 s, at least PRESIGNED_URL_EXPIRY, at most 7 days

    RunPod counts the ttl from the submission: it covers queue and run. For long queues a larger
    PRESIGNED_URL_EXPIRY lengthens it.

    Args:
        duration_s: The recording's length, finite and not negative.
        least_expiry_s: ``PRESIGNED_URL_EXPIRY``, 1 to 604,800.
        known_s: The job is known to need so long: an earlier one was killed after it, or its
            worker said so. It is given twice that, within the 7 days.

    Raises:
        RecordingTooLong: No URL lives long enough.
    """
    if duration_s > MAX_DURATION_S:
        raise RecordingTooLong(
            f"the recording is {duration_s / 3600:.1f} h long, the limit is "
            f"{MAX_DURATION_S / 3600:.1f} h (presigned URLs end after 7 days): split it"
        )
    longest_s = MAX_URL_EXPIRY_S - MARGIN_S - QUEUE_S
    execution_s = max(MIN_EXECUTION_S, math.ceil(STARTUP_S + SPEED_FACTOR * duration_s))
    execution_s = min(longest_s, max(execution_s, math.ceil(KNOWN_FACTOR * known_s)))
    expiry_s = max(least_expiry_s, QUEUE_S + execution_s + MARGIN_S)
    likely_s = math.ceil(max(STARTUP_S + LIKELY_FACTOR * duration_s, known_s))
    return Lifetimes(execution_s, expiry_s - MARGIN_S, expiry_s, likely_s)


ASSUMED_BYTES_PER_S = 2_000
"""16 kbit/s: low for the speech codecs that phones and browsers record with, so that the
estimate is rather too long than too short: it bounds how long a job may run."""
MAX_ESTIMATE_S = 172_800.0
"""An estimate never says more than two days; a big file is rather well encoded than that long."""


@dataclass(frozen=True)
class Length:
    """A recording's length in seconds, as its header says or as its size lets expect."""

    duration_s: float
    is_estimate: bool = False


def recording_length(head: bytes, object_bytes: int) -> Length:
    """Tell a recording's length from its first `wav.HEAD_BYTES` or fewer, and its whole size.

    What follows the sound of a WAV file mostly lies behind these bytes, and is counted as sound.
    """
    try:
        header = parse_wav(head)
    except NotWav:
        estimate_s = min(object_bytes / ASSUMED_BYTES_PER_S, MAX_ESTIMATE_S)
        return Length(estimate_s, is_estimate=True)
    sound = header.sound(object_bytes, head[header.declared_end :])
    return Length(sound.bytes / header.bytes_per_s)


@dataclass(frozen=True)
class SignedUrls:
    """A GET for the recording and a PUT for the transcript with its headers; URLs are masked."""

    audio_url: PresignedUrl
    result_url: PresignedUrl
    expires_s: int
    expires_at: datetime
    result_headers: dict[str, str]
    progress_url: PresignedUrl | None = None


def only_over(etag: str | None, settings: Settings) -> dict[str, str]:
    """Return the condition of `s3.put_condition` for stores that know conditions."""
    return s3.put_condition(etag) if settings.conditional_put else {}


def sign_urls(
    connection: Connection,
    session: Session,
    expires_s: int,
    condition: Mapping[str, str] | None = None,
    *,
    progress: bool = False,
) -> SignedUrls:
    """Sign a session's URLs; with ``progress`` also a PUT for the progress file.

    ``condition`` is the transcript's (`only_over`); without one it replaces whatever is there.
    Raises `BadUsage` if ``expires_s`` is out of range, `NotConfigured` without keys.
    """
    if not 1 <= expires_s <= MAX_URL_EXPIRY_S:
        raise BadUsage(f"a presigned URL lives 1 to {MAX_URL_EXPIRY_S} seconds, not {expires_s}")
    headers = {**connection.put_headers, **(condition or {})}
    audio = connection.sign("get_object", session.audio_key, expires_s, {})
    put = partial(connection.sign, "put_object", expires_s=expires_s)
    result = put(session.result_key, headers=headers)
    third = put(session.progress_key, headers=connection.put_headers) if progress else None
    query = parse_qs(urlsplit(audio.reveal()).query)
    signed_at = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    expires_at = signed_at + timedelta(seconds=expires_s)
    return SignedUrls(audio, result, expires_s, expires_at, headers, third)


def early_end(connection: Connection, expires_at: datetime) -> str | None:
    """Say in one line if temporary keys end a URL sooner than its signature does, else None."""
    if not connection.temporary:
        return None
    ends = connection.keys_end()
    if ends is None:
        unknown = "the AWS keys are temporary and nothing says when they end; the URLs end with"
        return f"{unknown} them (AWS_CREDENTIAL_EXPIRATION would tell)"
    if ends >= expires_at:
        return None
    return (
        f"the AWS keys end at {ends:%Y-%m-%d %H:%M:%S %Z}, before the URLs would "
        f"({expires_at:%Y-%m-%d %H:%M:%S %Z}): a job that takes longer fails; use longer-lived keys"
    )


def within_keys(connection: Connection, life: Lifetimes, now: datetime) -> Lifetimes:
    """Shorten a job's lifetimes to those of temporary keys.

    Raises `KeysEndTooSoon` if they end before a job that starts at once has likely ended.
    """
    ends = connection.keys_end()
    if ends is None:
        return life
    left_s = int((ends - now).total_seconds())
    if left_s < life.likely_s:
        raise KeysEndTooSoon(
            f"the AWS keys end at {ends:%Y-%m-%d %H:%M:%S %Z}, in {max(0, left_s)} s, and the URLs "
            f"with them; this recording needs some {life.likely_s} s: renew the keys (`aws sso "
            "login`, or a longer --duration-seconds), or use an IAM user's long-lived ones"
        )
    execution_s = min(life.execution_timeout_s, left_s)
    ttl_s, expiry_s = min(life.ttl_s, left_s), min(life.url_expiry_s, left_s)
    return Lifetimes(execution_s, ttl_s, expiry_s, life.likely_s)

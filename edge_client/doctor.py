"""Checks keys, bucket, clock and endpoint, and prints the least IAM policy.

Takes an `Edge`; returns `Check`s that name each fix, or the policy's document. Writes `PROBE_KEY`.
The policy allows ``s3:ListBucket``: without it a missing key answers 403, not 404. HEAD of the
bucket has no prefix that a condition could narrow (github.com/ceph/ceph/pull/68577), so nothing
here does it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from edge_client.errors import EdgeError, NotConfigured, StorageRefused, Unreachable
from edge_client.services.edge import Edge
from edge_client.services.presign import only_over
from edge_client.session import USERS, Session
from edge_client.settings import QUEUE, STORAGE

PROBE_KEY = ".edge-client-doctor.json"
"""Outside of `USERS`: no listing meets it."""
_BEHIND_BUCKET = ("list", "clock", "signature", "write")
MAX_SKEW_S = 60.0
"""S3 refuses signatures 15 minutes off; a minute is already a clock that nobody looks after."""


@dataclass(frozen=True)
class Check:
    """One line of the report. ``ok`` is None if it could not be looked at."""

    name: str
    ok: bool | None
    detail: str


def run_checks(edge: Edge) -> Iterator[Check]:
    """Yield the checks, in the order in which to fix them."""
    yield _guarded("settings", lambda: _settings(edge))
    keys = _guarded("AWS keys", lambda: _keys(edge))
    yield keys
    yield from _storage(edge) if keys.ok else _skipped("bucket", *_BEHIND_BUCKET)
    yield _guarded("endpoint", lambda: _endpoint(edge))


def _storage(edge: Edge) -> Iterator[Check]:
    try:
        headers = edge.bucket.describe(USERS)
    except EdgeError as exc:
        yield Check("bucket", False, str(exc))
        yield from _skipped(*_BEHIND_BUCKET)
        return
    yield _guarded("bucket", lambda: _bucket(edge, headers))
    yield _guarded("list", lambda: _listing(edge))
    yield _guarded("clock", lambda: _clock(edge.clock.now(), headers.get("date")))
    yield _guarded("signature", lambda: _signature(edge))
    yield _guarded("write", lambda: _write(edge))


def _guarded(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except EdgeError as exc:
        return Check(name, False, str(exc).removeprefix(f"{name}: "))


def _skipped(*names: str) -> Iterator[Check]:
    return (Check(name, None, "not looked at: fix the lines above first") for name in names)


def _settings(edge: Edge) -> str:
    edge.settings.require(*STORAGE, *QUEUE)
    return f"bucket {edge.settings.bucket}, endpoint {edge.settings.endpoint_id}"


def _keys(edge: Edge) -> str:
    connection = edge.connection
    if not connection.temporary:
        return "long-lived"
    ends = connection.keys_end()
    if ends is None:
        return "temporary; nothing says when they end, and the URLs end with them"
    return f"temporary, until {ends:%Y-%m-%d %H:%M %Z}; the URLs end with them"


def _bucket(edge: Edge, headers: dict[str, str]) -> str:
    there = headers.get("x-amz-bucket-region")
    if there is not None and there != edge.settings.region:
        raise NotConfigured(f"the bucket is in {there}: set AWS_REGION={there}")
    return f"{edge.bucket.name} answers"


def _listing(edge: Edge) -> str:
    is_any = edge.bucket.has_any(USERS)
    return "there are recordings under users/" if is_any else "nothing is under users/ yet"


def _clock(now: datetime, date: str | None) -> str:
    if date is None:
        raise Unreachable("S3 sent no Date header")
    skew_s = (now - parsedate_to_datetime(date)).total_seconds()
    if abs(skew_s) > MAX_SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        raise NotConfigured(
            f"this machine is {abs(skew_s):.0f} s {side} S3: set its clock (timedatectl set-ntp "
            "true); S3 refuses signatures that are 15 minutes off"
        )
    return f"within {max(1, abs(round(skew_s)))} s of S3"


def _signature(edge: Edge) -> str:
    """Use a presigned GET: 404 says that the signature is right, too."""
    status, code = _use_url(edge, "GET", {})
    if status in (200, 404):
        return "presigned URLs are accepted"
    if code == "AccessDenied":
        return "presigned URLs are accepted (a missing key answers 403)"
    raise StorageRefused(
        f"S3 answers {status} {code} to a presigned URL: check AWS_REGION, "
        "AWS_SECRET_ACCESS_KEY and the clock"
    )


def _write(edge: Edge) -> str:
    """Write the probe, then PUT it as workers do: S3 must refuse what replaces anything unseen."""
    etag, may_refuse = edge.bucket.write(PROBE_KEY, b"{}"), edge.settings.conditional_put
    for over, wanted in ((None, 412), (etag, 200), (etag, 412)) if may_refuse else ((None, 200),):
        headers = {**edge.connection.put_headers, **only_over(over, edge.settings)}
        status, code = _use_url(edge, "PUT", headers)
        if status != wanted:
            raise StorageRefused(
                f"S3 answers {status} {code}, not {wanted}, to a presigned PUT with "
                f"{', '.join(headers)}: if it knows no conditions, set S3_CONDITIONAL_PUT=0, and "
                "use one edge box alone: claims need them, too"
            )
    refuses = "and replace nothing unseen" if may_refuse else "a late job may replace a newer one"
    return f"presigned PUTs are accepted, {refuses}"


def _use_url(edge: Edge, method: str, headers: Mapping[str, str]) -> tuple[int, str]:
    """GET the probe, or PUT another, by presigned URL; return the status, and S3's error code."""
    url = edge.connection.sign(f"{method.lower()}_object", PROBE_KEY, 60, headers).reveal()
    more: Any = {"headers": headers, "data": str(uuid.uuid4()) if method == "PUT" else None}
    try:
        answer = requests.request(method, url, timeout=(5, 30), allow_redirects=False, **more)
    except requests.RequestException as exc:
        text = f"a presigned URL gets no answer ({type(exc).__name__})"
        raise Unreachable(text) from None  # its own text holds the URL
    found = re.search(r"<Code>([^<]*)</Code>", answer.text)
    return answer.status_code, found[1] if found else ""


def _endpoint(edge: Edge) -> str:
    health = edge.api.health()
    workers, jobs = health.get("workers") or {}, health.get("jobs") or {}
    up = workers.get("idle", 0) + workers.get("running", 0)
    told = f"answers; {up} workers up, {jobs.get('inQueue', 0)} jobs in its queue"
    if throttled := workers.get("throttled", 0):
        told += f"; {throttled} throttled: no GPU of the chosen kinds is free, allow more kinds"
    if up == 0:
        told += (
            ". None up is normal when idle, but after 7 days without a job RunPod sets max "
            "workers to 0: if jobs stay queued, raise it in the endpoint's settings"
        )
    return told


_ANY = Session(user="*", name="*")


def policy(bucket: str, region: str) -> dict[str, Any]:
    """Return the policy document; the region decides the partition, such as ``aws-cn``."""
    arn = f"arn:{partition_of(region)}:s3:::{bucket}"
    read_and_write = ["s3:GetObject", "s3:PutObject"]
    transcript_and_claim = [f"{arn}/{_ANY.result_key}", f"{arn}/{_ANY.claim_key}"]
    below_users = {"Condition": {"StringLike": {"s3:prefix": f"{USERS}*"}}}
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("FindSessions", "s3:ListBucket", arn) | below_users,
            _allow("ReadRecordings", "s3:GetObject", f"{arn}/{_ANY.audio_key}"),
            _allow("KeepTranscriptsAndClaims", read_and_write, transcript_and_claim),
            _allow("Probe", read_and_write, f"{arn}/{PROBE_KEY}"),
            _allow("WriteProgress", "s3:PutObject", f"{arn}/{_ANY.progress_key}"),
        ],
    }


def _allow(sid: str, action: str | list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


def partition_of(region: str) -> str:
    """Return the partition of a region, ``aws`` for one that botocore does not know."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        return boto3.Session(region_name=region).get_partition_for_region(region)
    except BotoCoreError:
        return "aws"

"""Checks keys, bucket, clock and endpoint, and prints the least IAM policy.

On one small object it tries what workers rely on: presigned URLs, headers and conditions. The
policy allows ``s3:ListBucket``: without it a missing key answers 403, not 404. HEAD of the bucket
has no prefix that a condition could narrow (github.com/ceph/ceph/pull/68577): nothing here does it.
"""

from __future__ import annotations

import hashlib
import random
import re
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import boto3
import requests
from botocore.exceptions import BotoCoreError

from bucketscribe_contract.redact import one_line
from edge_client import errors
from edge_client.services.edge import Edge
from edge_client.services.presign import only_over
from edge_client.session import DEFAULT, RecordingPattern
from edge_client.settings import QUEUE, STORAGE

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
    headers: dict[str, str] = {}
    checks: dict[str, Callable[[], str]] = {
        "settings": lambda: _settings(edge),
        "AWS keys": lambda: _keys(edge),
        "bucket": lambda: _bucket(edge, headers),
        "list": lambda: _listing(edge),
        "clock": lambda: _clock(edge.clock.now(), headers.get("date")),
        "signature": lambda: read_by_url(edge),
        "write": lambda: write_by_url(edge),
        "endpoint": lambda: _endpoint(edge),
    }
    is_hidden = False
    for name, check in checks.items():
        if is_hidden and name != "endpoint":
            yield Check(name, None, "not looked at: fix the lines above first")
            continue
        try:
            seen = Check(name, True, check())
        except errors.EdgeError as exc:
            seen = Check(name, False, str(exc).removeprefix(f"{name}: "))
        is_hidden |= (name == "AWS keys" and not seen.ok) or (name == "bucket" and not headers)
        yield seen


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
    """Fill in the headers of S3's answer."""
    headers |= edge.bucket.describe(edge.settings.recordings.begins())
    there = headers.get("x-amz-bucket-region")
    if there is not None and there != edge.settings.region:
        raise errors.NotConfigured(f"the bucket is in {there}: set AWS_REGION={there}")
    return f"{edge.bucket.name} answers"


def _listing(edge: Edge) -> str:
    place = edge.settings.recordings.begins()
    is_any = edge.bucket.has_any(place)
    return f"there are recordings under {place}" if is_any else f"nothing is under {place} yet"


def _clock(now: datetime, date: str | None) -> str:
    if date is None:
        raise errors.Unreachable("S3 sent no Date header")
    skew_s = (now - parsedate_to_datetime(date)).total_seconds()
    if abs(skew_s) > MAX_SKEW_S:
        side = "ahead of" if skew_s > 0 else "behind"
        raise errors.NotConfigured(
            f"this machine is {abs(skew_s):.0f} s {side} S3: set its clock (timedatectl set-ntp "
            "true); S3 refuses signatures that are 15 minutes off"
        )
    return f"within {max(1, abs(round(skew_s)))} s of S3"


def _endpoint(edge: Edge) -> str:
    health = edge.api.health()
    workers, jobs = health.get("workers") or {}, health.get("jobs") or {}
    up = workers.get("idle", 0) + workers.get("running", 0)
    told = f"answers; {up} workers up, {jobs.get('inQueue', 0)} jobs in its queue"
    if throttled := workers.get("throttled", 0):
        told += f"; {throttled} throttled: {errors.THROTTLED}"
    if unhealthy := workers.get("unhealthy", 0):
        told += f"; {unhealthy} unhealthy: {errors.UNHEALTHY}"
        if up == 0:
            raise errors.EndpointFails(told)
    if up == 0:
        told += (
            ". None up is normal when idle, but after 7 days without a job RunPod sets max "
            "workers to 0: if jobs stay queued, raise it in the endpoint's settings"
        )
    return told


def policy(
    bucket: str, region: str, recordings: RecordingPattern = DEFAULT, *, with_upload: bool = False
) -> dict[str, Any]:
    """Return the policy document; the region decides the partition, such as ``aws-cn``.

    ``with_upload`` adds the right to store recordings. ``bucket`` may be an access point's ARN;
    raises `NotConfigured` for its alias, which tells none.
    """
    if bucket.endswith("-s3alias"):
        text = "set COGNITO_S3_BUCKET to the access point's ARN: a policy names that"
        raise errors.NotConfigured(text)
    try:
        partition = boto3.Session(region_name=region).get_partition_for_region(region)
    except BotoCoreError:  # which does not know the region
        partition = "aws"
    is_arn = bucket.startswith("arn:")
    arn = bucket if is_arn else f"arn:{partition}:s3:::{bucket}"
    objects = f"{arn}/object" if is_arn else arn
    read_and_write = ["s3:GetObject", "s3:PutObject"]
    any_ = recordings.any
    recording = f"{objects}/{any_.audio_key}"
    transcript_and_claim = [f"{objects}/{any_.result_key}", f"{objects}/{any_.claim_key}"]
    below = {"Condition": {"StringLike": {"s3:prefix": f"{recordings.begins()}*"}}}
    statements = [
        _allow("FindSessions", "s3:ListBucket", arn) | below,
        _allow("ReadRecordings", "s3:GetObject", recording),
        _allow("KeepTranscriptsAndClaims", read_and_write, transcript_and_claim),
        _allow("Probe", read_and_write, f"{objects}/{PROBE_KEY}"),
        _allow("WriteProgress", "s3:PutObject", f"{objects}/{any_.progress_key}"),
    ]
    if with_upload:
        statements += [
            _allow("StoreRecordings", _STORE, recording),
            _allow("ResumeUploads", "s3:ListBucketMultipartUploads", arn),  # it knows no condition
        ]
    return {"Version": "2012-10-17", "Statement": statements}


_STORE = ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]


def _allow(sid: str, action: str | list[str], resource: str | list[str]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Allow", "Action": action, "Resource": resource}


PROBE_KEY = ".edge-client-doctor.json"
"""Outside of ``users/``: no listing meets it."""
_PAUSES_S = (0.5, 1.0, 2.0)


def read_by_url(edge: Edge) -> str:
    """Use a presigned GET: 404 says that the signature is right, too."""
    status, code, words = _use_url(edge, "GET", {})
    if status in (200, 404):
        return "presigned URLs are accepted"
    if code == "AccessDenied":
        return "presigned URLs are accepted (a missing key answers 403)"
    raise errors.StorageRefused(
        f"S3 answers {status} {words} to a presigned URL: check AWS_REGION, "
        "AWS_SECRET_ACCESS_KEY and the clock"
    )


class _Replaced(errors.StorageRefused):
    """S3 knows no conditions, or another box tries it in this moment."""


def write_by_url(edge: Edge) -> str:
    """Write the probe, then PUT it as workers do: S3 must refuse what replaces anything unseen."""
    for longest_s in _PAUSES_S:
        with suppress(_Replaced):
            return _write_by_url(edge)
        edge.clock.sleep(random.uniform(0, longest_s))  # noqa: S311  # boxes part, no secret
    return _write_by_url(edge)


def _write_by_url(edge: Edge) -> str:
    # what no other box writes: its ETag, too, is ours alone
    etag = edge.bucket.write(PROBE_KEY, uuid.uuid4().bytes)
    may_refuse = edge.settings.conditional_put
    for over, wanted in ((None, 412), (etag, 200), (etag, 412)) if may_refuse else ((None, 200),):
        headers = {**edge.connection.put_headers, **only_over(over, edge.settings)}
        status, _, words = _use_url(edge, "PUT", headers)
        if status != wanted:
            kind = _Replaced if (status, wanted) == (412, 200) else errors.StorageRefused
            raise kind(
                f"S3 answers {status} {words}, not {wanted}, to a presigned PUT with "
                f"{', '.join(headers)}: if it knows no conditions, set S3_CONDITIONAL_PUT=0, and "
                "use one edge box alone: claims need them, too"
            )
    refuses = "and replace nothing unseen" if may_refuse else "a late job may replace a newer one"
    return f"presigned PUTs are accepted, {refuses}"


def _use_url(edge: Edge, method: str, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """GET the probe, or PUT another, by presigned URL; return the status, S3's code and words."""
    url = edge.connection.sign(f"{method.lower()}_object", PROBE_KEY, 60, headers).reveal()
    body = uuid.uuid4().bytes if method == "PUT" else b""
    md5 = b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    bundle = edge.settings.ca_bundle
    try:
        answer = requests.request(
            method,
            url,
            data=body or None,
            headers={**headers, "Content-MD5": md5} if body else dict(headers),
            timeout=(5, 30),
            allow_redirects=False,
            auth=lambda request: request,  # else requests takes one from ~/.netrc
            verify=None if bundle is None else str(bundle),
        )
    except requests.RequestException as exc:
        text = f"a presigned URL gets no answer ({type(exc).__name__})"
        raise errors.Unreachable(text) from None  # its own text holds the URL
    found = dict(re.findall(r"<(Code|Message)>([^<]*)<", answer.text[:8192]))
    code, message = found.get("Code", ""), one_line(found.get("Message", ""))
    return answer.status_code, code, f"{code} ({message})" if message else code

"""Tries on one small object what workers rely on: presigned URLs, headers and conditions.

Takes an `Edge`; returns what works, as text for people; raises `EdgeError` naming the remedy.
"""

from __future__ import annotations

import hashlib
import random
import re
import uuid
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress

import requests

from bucketscribe_contract.redact import one_line
from edge_client.errors import StorageRefused, Unreachable
from edge_client.services.edge import Edge
from edge_client.services.presign import only_over

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
    raise StorageRefused(
        f"S3 answers {status} {words} to a presigned URL: check AWS_REGION, "
        "AWS_SECRET_ACCESS_KEY and the clock"
    )


class _Replaced(StorageRefused):
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
            kind = _Replaced if (status, wanted) == (412, 200) else StorageRefused
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
        raise Unreachable(text) from None  # its own text holds the URL
    found = dict(re.findall(r"<(Code|Message)>([^<]*)<", answer.text[:8192]))
    code, message = found.get("Code", ""), one_line(found.get("Message", ""))
    return answer.status_code, code, f"{code} ({message})" if message else code

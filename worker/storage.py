"""HTTP to S3 by presigned URL, and what S3's refusals mean.

The exact string that was signed goes on the wire: requests would re-quote it. Redirects are
not followed: a presigned URL is valid for one host. Nothing raised here holds a URL's query.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from contract import FailureCode, PresignedUrl, Stage
from worker.errors import WorkerError

CONNECT_TIMEOUT_S = 10.0
READ_STALL_S = 30.0
_ERROR_BODY_BYTES = 4096


@contextmanager
def exchange(
    method: str, url: PresignedUrl, stage: Stage, **request: Any
) -> Iterator[requests.Response]:
    """Send one request and give its streamed response.

    Args:
        method: HTTP method.
        url: What was signed, sent untouched.
        stage: Named by errors.
        request: ``data`` and ``headers`` as `requests.Request` takes them.

    Raises:
        WorkerError: ``STORAGE_UNAVAILABLE`` when S3 does not answer, or stops half way.
    """
    with requests.Session() as session:
        session.trust_env = False  # a netrc entry would add a second, unsigned permission
        prepared = session.prepare_request(requests.Request(method, url.reveal(), **request))
        prepared.url = url.reveal()
        try:
            with session.send(
                prepared,
                stream=True,
                allow_redirects=False,
                timeout=(CONNECT_TIMEOUT_S, READ_STALL_S),
            ) as response:
                yield response
        except requests.RequestException as exc:
            raise WorkerError(
                FailureCode.STORAGE_UNAVAILABLE,
                f"{method} {url.masked}: {type(exc).__name__}; S3 did not answer, submit again",
                stage,
            ) from None  # the cause's text holds the URL


def error_text(response: requests.Response) -> tuple[str, str]:
    """Return S3's error code and message, empty where the body has none."""
    body = next(response.iter_content(_ERROR_BODY_BYTES), b"").decode("utf-8", "replace")
    return _tag(body, "Code"), _tag(body, "Message")


def clock_skew_s(response: requests.Response) -> float:
    """Return S3's clock minus this machine's, in seconds; 0 where S3 does not tell its time."""
    try:
        said = parsedate_to_datetime(response.headers["Date"])
    except (KeyError, ValueError):
        return 0.0
    if said.tzinfo is None:
        return 0.0
    return (said - datetime.now(UTC)).total_seconds()


def stored_md5(response: requests.Response) -> str | None:
    """Return the MD5 of the object that a response is about, where its ETag is one.

    It is not for multipart uploads, nor with KMS or customer keys (S3 API reference, "ETag").
    """
    etag = response.headers.get("ETag", "").strip('"')
    encryption = response.headers.get("x-amz-server-side-encryption", "")
    customer = "x-amz-server-side-encryption-customer-algorithm" in response.headers
    plain = not customer and not encryption.startswith("aws:kms")
    return etag if plain and re.fullmatch(r"[0-9a-f]{32}", etag) else None


def _tag(body: str, name: str) -> str:
    found = re.search(rf"<{name}>([^<]*)</{name}>", body)
    return found.group(1) if found else ""

"""HTTP to S3 by presigned URL: which URLs are allowed, one exchange, what S3's answers mean.

The signed string is sent as it is (requests would quote it again), and redirects are not followed:
a presigned URL is valid for one host. Every address that a host resolves to must be public (SSRF).
Raises `WorkerError`; nothing raised holds a URL's query.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import requests

from bucketscribe_contract import FailureCode, JobInput, PresignedUrl, Stage
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


def describe_error(response: requests.Response) -> str:
    """Return the status, and S3's error code and message where the body has them."""
    body = next(response.iter_content(_ERROR_BODY_BYTES), b"").decode("utf-8", "replace")
    found = (re.search(rf"<{name}>([^<]+)</{name}>", body) for name in ("Code", "Message"))
    return " ".join([f"S3 answered {response.status_code}", *(tag[1] for tag in found if tag)])


def is_passing(response: requests.Response) -> bool:
    """Whether another try may succeed; 409: two PUTs met (S3 API reference, "PutObject")."""
    return response.status_code >= 500 or response.status_code in (409, 429)


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
    if customer or encryption.startswith("aws:kms"):
        return None
    return etag if re.fullmatch(r"[0-9a-f]{32}", etag) else None


@dataclass(frozen=True)
class UrlPolicy:
    """What is allowed.

    Attributes:
        allow_loopback: Take http and loopback addresses; for the development stack.
        host_suffixes: Hosts must end in one of these; empty: any public host.
    """

    allow_loopback: bool = False
    host_suffixes: tuple[str, ...] = ()

    def check_job(self, job: JobInput) -> None:
        """Raise `WorkerError` ``URL_NOT_ALLOWED`` naming the first field that is refused."""
        for field in ("audio_url", "result_url", "progress_url"):
            url = getattr(job, field)
            if url is not None:
                self._check(field, url)

    def _check(self, field: str, url: PresignedUrl) -> None:
        parts = urlsplit(url.reveal())
        host = (parts.hostname or "").lower()
        addresses = _resolve(host)
        if self.allow_loopback and addresses and all(a.is_loopback for a in addresses):
            return
        if parts.scheme != "https":
            raise _refused(field, "is not https; sign it for S3's https endpoint")
        if self.host_suffixes and not _ends_in(host, self.host_suffixes):
            raise _refused(field, f"host {host} is not in ALLOWED_URL_HOSTS")
        if any(not a.is_global for a in addresses):
            raise _refused(field, f"host {host} has a private address; use S3's public endpoint")


def _ends_in(host: str, suffixes: tuple[str, ...]) -> bool:
    return any(host == s.lstrip(".") or host.endswith("." + s.lstrip(".")) for s in suffixes)


def _resolve(host: str) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Return the host's addresses; none when it does not resolve (the fetch will say so)."""
    try:
        found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError):
        return []
    return [ipaddress.ip_address(str(address[0]).split("%")[0]) for *_, address in found]


def _refused(field: str, why: str) -> WorkerError:
    return WorkerError(FailureCode.URL_NOT_ALLOWED, f"{field} {why}", Stage.VALIDATE)


def expires_at(url: PresignedUrl) -> datetime | None:
    """Return when a SigV4 presigned URL ends (UTC), or None for any other URL.

    Source: ``X-Amz-Date`` and ``X-Amz-Expires`` of AWS's query string authentication.
    """
    query = parse_qs(urlsplit(url.reveal()).query)
    try:
        signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        return signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))
    except (KeyError, ValueError, OverflowError):
        return None

"""HTTP to S3 by presigned URL: one exchange, and what S3's answers mean.

The signed string is sent as it is, to an address that `UrlPolicy` judged; nothing redirects, and no
proxy and no ``.netrc`` is asked. The body is what S3 stores, not decoded.
Raises `WorkerError`; nothing raised holds a URL's query.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import re
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

import certifi
from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from bucketscribe_contract import FailureCode, PresignedUrl
from bucketscribe_contract.redact import one_line
from worker.cancel import LOOK_S, Deadline
from worker.errors import WorkerError
from worker.urls import Target, UrlPolicy

CONNECT_TIMEOUT_S = 10.0
READ_STALL_S = 30.0
_ERROR_BODY_BYTES = 4096
_MAX_SKEW_S = 366 * 86400.0
_REMEDY = "sign for a host whose certificate is trusted, or set ALLOWED_URL_CA to its authority"


@contextmanager
def exchange(
    method: str,
    url: PresignedUrl,
    policy: UrlPolicy,
    deadline: Deadline,
    body: bytes | None = None,
    headers: Mapping[Any, str] | None = None,
) -> Iterator[HTTPResponse]:
    """Send one request and give its streamed response.

    Args:
        method: HTTP method.
        url: What was signed, sent untouched.
        policy: Judges where it leads.
        deadline: Ends the exchange, whatever it waits for.
        body: Sent with its MD5, which buckets with Object Lock demand.
        headers: What it was signed with.

    Raises:
        WorkerError: ``STORAGE_UNAVAILABLE`` when S3 does not answer, or stops half way;
            ``URL_NOT_ALLOWED``, also for a certificate that is not trusted.
    """
    target = policy.target(url, deadline)
    kind = HTTPSConnection if target.is_https else HTTPConnection
    connection = kind(target.host, target.port, timeout=READ_STALL_S)
    sent, stream = dict(headers or {}), None
    if body is not None:
        md5 = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
        sent |= {"Content-Length": str(len(body)), "Content-MD5": md5}
        stream = io.BytesIO(body)  # sent in blocks, each with the timeout
    raw = {"preload_content": False, "decode_content": False}
    with closing(connection), _ended_with(deadline) as sockets:
        try:
            sock = _connect(target, sockets, deadline)
            if target.is_https:
                sock = trust(policy.ca).wrap_socket(sock, server_hostname=target.host)
            connection.sock = sock
            with suppress(BrokenPipeError, ConnectionResetError):  # S3 may have answered already
                connection.request(method, target.path, stream, sent, **raw)
            response = connection.getresponse()
        except (HTTPException, HTTPError, OSError, ValueError) as exc:
            raise _failure(method, url, exc, deadline) from None  # its text holds the URL
        with closing(response):
            try:
                yield response
            except (HTTPError, ValueError) as exc:
                raise _failure(method, url, exc, deadline) from None
            deadline.check()


@functools.cache
def trust(ca: str | None) -> ssl.SSLContext:
    """Return what verifies certificates.

    Args:
        ca: As in `UrlPolicy`; OSError or ValueError if it is none.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    if ca and "-----BEGIN" in ca:
        context.load_verify_locations(cadata=ca)
    elif ca:
        context.load_verify_locations(cafile=ca)
    return context


@contextmanager
def _ended_with(deadline: Deadline) -> Iterator[list[socket.socket]]:
    """Give a list; a thread shuts down the sockets in it when the deadline is over."""
    sockets: list[socket.socket] = []
    is_done = threading.Event()

    def watch() -> None:
        while not is_done.wait(LOOK_S):
            if deadline.is_over:
                for sock in list(sockets):
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield sockets
    finally:
        is_done.set()
        thread.join()
        for sock in sockets:
            sock.close()


def _connect(target: Target, sockets: list[socket.socket], deadline: Deadline) -> socket.socket:
    """Connect to the first address that answers; ``sockets`` gets each a second time.

    TLS takes a socket over before its handshake: the first object has no descriptor then.
    """
    failure = OSError()
    for family, kind, protocol, _, address in target.addresses:
        deadline.check()
        try:
            with ExitStack() as unless_connected:
                sock = unless_connected.enter_context(socket.socket(family, kind, protocol))
                sockets.append(sock.dup())
                sock.settimeout(CONNECT_TIMEOUT_S)
                sock.connect(address)
                sock.settimeout(READ_STALL_S)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                unless_connected.pop_all()
                return sock
        except OSError as exc:
            failure = exc
    raise failure


def _failure(method: str, url: PresignedUrl, exc: Exception, deadline: Deadline) -> WorkerError:
    """Return what an exchange ends with; raises if the deadline ended it."""
    deadline.check()
    code, why = FailureCode.STORAGE_UNAVAILABLE, "S3 did not answer, submit again"
    if isinstance(exc, ssl.SSLCertVerificationError):
        code, why = FailureCode.URL_NOT_ALLOWED, f"{exc.verify_message}; {_REMEDY}"
    return WorkerError(code, f"{method} {url.masked}: {type(exc).__name__}; {why}", deadline.stage)


def describe_error(response: HTTPResponse) -> str:
    """Return the status, and S3's error code and message where the body has them."""
    body = ""
    with suppress(HTTPError):  # the status says enough
        body = response.read(_ERROR_BODY_BYTES).decode("utf-8", "replace")
    found = (re.search(rf"<{name}>([^<]+)</{name}>", body) for name in ("Code", "Message"))
    said = " ".join([f"S3 answered {response.status}", *(tag[1] for tag in found if tag)])
    return one_line(said)


def is_passing(response: HTTPResponse) -> bool:
    """Whether another try may succeed; 409: two PUTs met (S3 API reference, "PutObject")."""
    return response.status >= 500 or response.status in (409, 429)


def clock_skew_s(response: HTTPResponse) -> float:
    """Return S3's clock minus this machine's, in seconds; 0 where S3 does not tell its time."""
    try:
        said = parsedate_to_datetime(response.headers["Date"][:64])
    except (KeyError, ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    if said.tzinfo is None:
        return 0.0
    skew_s = (said - datetime.now(UTC)).total_seconds()
    return skew_s if abs(skew_s) < _MAX_SKEW_S else 0.0


def stored_md5(response: HTTPResponse) -> str | None:
    """Return the MD5 of the object that a response is about, where its ETag is one.

    It is not for multipart uploads, nor with KMS or customer keys (S3 API reference, "ETag").
    """
    etag = response.headers.get("ETag", "").strip('"')
    encryption = response.headers.get("x-amz-server-side-encryption", "")
    customer = "x-amz-server-side-encryption-customer-algorithm" in response.headers
    if customer or encryption.startswith("aws:kms"):
        return None
    return etag if re.fullmatch(r"[0-9a-f]{32}", etag) else None

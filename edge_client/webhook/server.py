"""The receiver of RunPod's callbacks: its secret, its answers, and an HTTP server.

``POST /…/SECRET/<encoded session>`` answers 200 queued or 503 no room (RunPod tries twice more),
``POST /…/SECRET`` 400, ``GET /health`` 200, anything else 404. The path decides, before any of the
body is read; of the body, its job's id is a hint that `/status` has to prove
(docs/adr/0007-the-body-of-a-callback-is-never-trusted.md). It is read to its end: a proxy takes an
early answer for a failure. TLS is that proxy's business.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from pydantic import SecretStr

from bucketscribe_contract.redact import one_line, register
from edge_client.errors import BadUsage, NotConfigured
from edge_client.jobs.callback_url import PLACEHOLDER, SECRET, checked
from edge_client.session import RecordingPattern, Session
from edge_client.text import Printer

FRESH_BYTES = 32
_FORM = re.compile(r"[A-Za-z0-9_-]{16,128}")
_MAKE_ONE = "`edge-client webhook secret` makes one"


class Secret:
    """A secret that can be looked for in a path; never shown.

    It has 16 to 128 characters of A–Z, a–z, 0–9, ``-`` and ``_``: none that a proxy encodes.

    Raises:
        NotConfigured: It has another form.
    """

    def __init__(self, value: str) -> None:
        if not _FORM.fullmatch(value):
            form = "16 to 128 characters of A-Z a-z 0-9 - _"
            raise NotConfigured(f"the webhook's secret must have {form}: {_MAKE_ONE}")
        register(value)
        self._digest = _digest(value)

    def place_in(self, segments: Sequence[str]) -> int | None:
        """Return which segment is the secret, None if none is.

        Every segment is compared, and only digests of one length are: how long it takes tells
        nothing about the secret.
        """
        same = [hmac.compare_digest(_digest(segment), self._digest) for segment in segments]
        return same.index(True) if any(same) else None


def fresh_secret() -> str:
    """Return a new secret."""
    return secrets.token_urlsafe(FRESH_BYTES)


def load_secret(file: Path | None, setting: SecretStr | None) -> Secret:
    """Return the secret in the file, else WEBHOOK_SECRET; raises `NotConfigured`."""
    if file is not None:
        try:
            return Secret(file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            raise NotConfigured(f"cannot read {file} ({type(exc).__name__}): {_MAKE_ONE}") from exc
    if setting is None:
        raise NotConfigured(f"not set: WEBHOOK_SECRET, or --secret-file: {_MAKE_ONE}")
    return Secret(setting.get_secret_value())


def secret(env_file: Path | None, printer: Printer, base: str) -> int:
    """Print a fresh secret, and the ``--webhook`` below ``base`` to use with it."""
    value = fresh_secret()
    url = checked(f"{base.rstrip('/')}/{SECRET}/{PLACEHOLDER}", runpod_url="")
    lines = f"WEBHOOK_SECRET={value}", f"# submit with: --webhook '{url}'"
    printer.result({"secret": value, "webhook": url}, *lines, reveals=True)
    return 0


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 32_000_000
"""More than RunPod takes as a result (20 MB)."""
BODY_TIMEOUT_S = 30.0
HEAD_BYTES = 16_384
"""So much of a body is kept: RunPod sends the id before input and output."""
_JOB_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9-]{1,64})"')
MAX_KEY_BYTES = 1024
"""S3's limit: no session has a longer prefix."""
_TEXTS = {
    200: "ok\n",
    400: "the URL names no session: submit with --webhook https://HOST/PATH/SECRET/{session}\n",
    404: "not found\n",
    408: "the body took too long\n",
    413: "the body is too large\n",
    503: "no room: try again later\n",
}


class Receiver:
    """Takes callbacks in whose path holds the secret; ``offer`` is False if there is no room.

    ``hints`` gets the job that a call about a session names.
    """

    def __init__(
        self,
        secret: Secret,
        offer: Callable[[Session], bool],
        hints: dict[Session, str],
        recordings: RecordingPattern,
    ) -> None:
        self._secret, self._offer, self._hints = secret, offer, hints
        self._recordings = recordings

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        method, path = scope["method"], scope["raw_path"]
        if (method, path) == ("GET", b"/health"):
            return await _answer(send, 200)
        segments = unquote_to_bytes(path).decode("utf-8", "replace").split("/")
        place = self._secret.place_in(segments)
        if place is None or method != "POST":
            return await _answer(send, 404)
        unread, head = await _read_away(receive)
        status = self._take_in("/".join(segments[place + 1 :]), _JOB_ID.search(head))
        return await _answer(send, unread or status)

    def _take_in(self, prefix: str, job_id: re.Match[bytes] | None) -> int:
        try:
            session = self._recordings.parse(prefix)
        except BadUsage:
            log.warning("a call with the right secret names no session: see docs/webhooks.md")
            return 400
        if len(session.prefix.encode()) > MAX_KEY_BYTES:
            return 400
        if job_id is not None:
            self._hints[session] = job_id[1].decode()
        if not self._offer(session):
            self._hints.pop(session, None)
            log.warning("%s: no room for the call", named(session))
            return 503
        log.info("%s: called", named(session))
        return 200


async def _read_away(receive: Receive) -> tuple[int | None, bytes]:
    """Read the body; return the status of one that is too large or too slow, and its head."""
    size_bytes, head = 0, b""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                size_bytes += len(message.get("body", b""))
                head += message.get("body", b"")[: HEAD_BYTES - len(head)]
                if size_bytes > MAX_BODY_BYTES:
                    return 413, head
                if not message.get("more_body"):  # the end, or the caller is gone
                    return None, head
    except TimeoutError:
        return 408, head


async def _answer(send: Send, status: int) -> None:
    body = _TEXTS[status].encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # an unread body ends with its connection
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def named(session: Session) -> str:
    """Return a session for a log line: whoever calls the receiver chooses the name."""
    return one_line(session.prefix)


MAX_CONNECTIONS = 200
STOP_S = 5
"""Requests that are under way at the end get so long."""


def http_server(receiver: Receiver) -> uvicorn.Server:
    """Return the HTTP server: its ``run`` lasts until SIGTERM or SIGINT."""
    logging.getLogger("uvicorn.access").disabled = True  # paths hold the secret: no handler's
    config = uvicorn.Config(
        receiver,
        http="h11",  # the same parser everywhere, whatever else is installed
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_S,
    )
    return uvicorn.Server(config)


def url_of(listener: socket.socket) -> str:
    """Return what a proxy forwards to."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def bound(listen: str) -> socket.socket:
    """Return a socket that listens on ``HOST:PORT``, port 0: any; `BadUsage`, `NotConfigured`.

    It names its protocol, else asyncio leaves TCP_NODELAY off.
    """
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadUsage(f"--listen {listen!r}: give HOST:PORT, such as 127.0.0.1:8787")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        made = socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS)
    except OSError as exc:
        text = f"{exc.strerror}: choose another host or port"
        raise NotConfigured(f"--listen {listen}: {text}") from exc
    return socket.socket(fileno=made.detach())

"""``edge-client webhook``: the receiver of RunPod's callbacks, and the queue of what follows.

``POST /…/SECRET/<encoded session>`` answers 200 queued or 503 no room (RunPod tries twice more),
``POST /…/SECRET`` 400, ``GET /health`` 200, anything else 404. The path decides, before any of the
body is read; of the body, its job's id is a hint that `/status` has to prove
(docs/adr/0007-the-body-of-a-callback-is-never-trusted.md). All of it is read: the proxy, which has
the TLS, takes an early answer for a failure.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from pydantic import SecretStr

from bucketscribe_contract.redact import one_line, register
from edge_client import errors
from edge_client.jobs import claim as claims
from edge_client.jobs.callback_url import PLACEHOLDER, SECRET, checked
from edge_client.jobs.poll import log_view
from edge_client.jobs.reconcile import Done, Reconciler
from edge_client.jobs.retry_policy import Result
from edge_client.jobs.workqueue import WorkQueue
from edge_client.services.edge import Edge
from edge_client.session import RecordingPattern, Session
from edge_client.settings import is_loopback_http
from edge_client.text import Printer

_FORM = re.compile(r"[A-Za-z0-9_-]{16,128}")
_MAKE_ONE = "`edge-client webhook secret` makes one"


class Secret:
    """A secret that can be looked for in a path; never shown.

    It has 16 to 128 characters of A–Z, a–z, 0–9, ``-`` and ``_``: none that a proxy encodes.
    Raises `NotConfigured` if it has another form.
    """

    def __init__(self, value: str) -> None:
        if not _FORM.fullmatch(value):
            form = "16 to 128 characters of A-Z a-z 0-9 - _"
            raise errors.NotConfigured(f"the webhook's secret must have {form}: {_MAKE_ONE}")
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
    return secrets.token_urlsafe(32)


def load_secret(file: Path | None, setting: SecretStr | None) -> Secret:
    """Return the secret in the file, else WEBHOOK_SECRET; raises `NotConfigured`."""
    if file is not None:
        try:
            return Secret(file.read_text("utf-8").strip())
        except (OSError, UnicodeDecodeError) as exc:
            text = f"cannot read {file} ({type(exc).__name__}): {_MAKE_ONE}"
            raise errors.NotConfigured(text) from exc
    if setting is None:
        raise errors.NotConfigured(f"not set: WEBHOOK_SECRET, or --secret-file: {_MAKE_ONE}")
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
        except errors.BadUsage:
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
        raise errors.BadUsage(f"--listen {listen!r}: give HOST:PORT, such as 127.0.0.1:8787")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        made = socket.create_server(address[:2], family=family, backlog=MAX_CONNECTIONS)
    except OSError as exc:
        text = f"{exc.strerror}: choose another host or port"
        raise errors.NotConfigured(f"--listen {listen}: {text}") from exc
    return socket.socket(fileno=made.detach())


THREADS = 8
GRACE_S = 20.0
LOOKS = 4
"""So often is a job looked at that does not seem to have ended: a status that lags behind its
callback catches up in the 4 s that they take."""


def adopt(edge: Edge, session: Session, job_id: str) -> None:
    """Put the job that a callback names into a claim that has none, if RunPod proves it to be its.

    The submission's answer was lost. Anybody may have called: the job counts only if its output
    echoes the claim's ``request_id``.
    """
    held = claims.read(edge.bucket, session)
    if held is None or held.claim is None or held.claim.job_id is not None:
        return
    with suppress(errors.JobNotFound, errors.ClaimConflict):
        if edge.api.status(job_id).request_id == held.claim.request_id:
            claim = held.claim.model_copy(update={"job_id": job_id})
            claims.store(edge.bucket, session, claim, held)


class Finisher:
    """Brings sessions on, a `Reconciler` step a call: no thread sleeps through a pause.

    The receiver fills in ``hints``: the jobs that calls named.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.recordings = edge.settings.recordings
        self.hints: dict[Session, str] = {}
        self._visits: dict[Session, tuple[Reconciler, int]] = {}

    def finish(self, session: Session) -> float | None:
        """Resolve the session's job if it ended, and do what the retry policy says.

        Called about anything: twice, late, for a session that is done, that nobody submitted,
        that does not exist, or whose job still runs. Not called twice at a time for one session.
        Return the seconds after which to call it again, None if nothing more is to do here.
        """
        seconds = self._bring_on(session, named(session))
        if seconds is None:
            self.hints.pop(session, None)
        return seconds

    def _bring_on(self, session: Session, name: str) -> float | None:
        begun = self._visits.pop(session, None)
        reconciler, looks = begun or (Reconciler(self._edge, session, log_view(log, session)), 0)
        before = reconciler.claim
        with suppress(errors.Unreachable, errors.RateLimited):
            if session in self.hints:
                adopt(self._edge, session, self.hints[session])
                del self.hints[session]
        try:
            seen = reconciler.step()
        except errors.EdgeError as exc:
            log.warning("%s: %s", name, exc)
            return None
        claim = reconciler.claim
        if isinstance(seen, Done):
            level = logging.INFO if seen.outcome.result is Result.DONE else logging.WARNING
            log.log(level, "%s: %s: %s", name, seen.outcome.result, seen.outcome.text)
            return None
        if before is not None and claim is not None and before.request_id != claim.request_id:
            log.info("%s: job %s replaced it", name, claim.job_id)
            return None
        looks += not reconciler.plans_submission and not reconciler.is_waiting
        if looks >= LOOKS:
            log.info("%s: its job has not ended, it is left alone", name)
            return None
        self._visits[session] = reconciler, looks
        return seen.seconds


def serve(env_file: Path | None, printer: Printer, listen: str, secret_file: Path | None) -> int:
    """Receive callbacks until a signal comes; raises `NotConfigured` if it cannot begin."""
    edge = Edge.load(env_file)
    secret = load_secret(secret_file, edge.settings.webhook_secret)
    _ = edge.bucket, edge.api  # made once, before there are threads
    logging.getLogger("edge_client.webhook").setLevel(logging.INFO)
    receive(secret, bound(listen), Finisher(edge), printer.note)
    return 0


def receive(
    secret: Secret, listener: socket.socket, finisher: Finisher, say: Callable[[str], None]
) -> None:
    """Serve until the first SIGTERM or SIGINT, then let threads finish; a second one kills."""
    queue = WorkQueue(finisher.finish)
    receiver = Receiver(secret, queue.add, finisher.hints, finisher.recordings)
    server, url = http_server(receiver), url_of(listener)
    queue.start(THREADS, "webhook")
    say(f"listening on {url}")
    if not is_loopback_http(url):
        say("this is plain HTTP on a public address: the secret needs a TLS proxy in front")
    _on_signals(signal.SIG_IGN)  # the server has its own handlers, and raises the signal again
    server.run(sockets=[listener])
    _on_signals(signal.SIG_DFL)
    left = queue.close() + queue.join(GRACE_S)
    sessions = "1 session is" if left == 1 else f"{left} sessions are"
    say(f"stopped; {sessions} left to `edge-client batch` or `wait`" if left else "stopped")


def _on_signals(handler: signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)

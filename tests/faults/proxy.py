"""An HTTP proxy on loopback that can break single exchanges, as networks and servers do.

Each request is one connection. `Rule`s say which exchange gets which trick and how often; every
other exchange passes through, byte for byte and with its own Host header, which SigV4 signs.
"""

from __future__ import annotations

import fcntl
import http.client
import math
import os
import select
import socket
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

PATIENCE_S = 120.0
_OF_ONE_CONNECTION = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}
Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answer:
    """What a server said, all of it."""

    status: int
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)

    def with_headers(self, **changed: str | None) -> Answer:
        """Return the answer with headers set, or taken out; ``_`` stands for ``-``."""
        wanted = {name.replace("_", "-").lower(): value for name, value in changed.items()}
        kept = [pair for pair in self.headers if pair[0].lower() not in wanted]
        added = [(name, value) for name, value in wanted.items() if value is not None]
        return replace(self, headers=(*kept, *added))


@dataclass
class Exchange:
    """One request on its way, and what became of it.

    Attributes:
        target: Path and query, as they were sent.
        sent_bytes: Of the answer's body, that the other side's machine has acknowledged.
        answer: What was sent, of which perhaps not all.
        at: When it came in, in seconds of the monotonic clock.
    """

    method: str
    target: str
    headers: Headers = field(repr=False)
    body: bytes = field(repr=False)
    upstream: str
    connection: socket.socket = field(repr=False)
    sent_bytes: int = 0
    answer: Answer | None = None
    at: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def is_presigned(self) -> bool:
        """Whether a URL's query gives the permission: so the worker asks, not the edge."""
        return "X-Amz-Signature=" in self.target

    def header(self, name: str) -> str | None:
        """Return a request header."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def forward(self, target: str | None = None, body: bytes | None = None) -> Answer:
        """Ask upstream, with another target or body if told so."""
        host = urlsplit(self.upstream)
        content = self.body if body is None else body
        asked = http.client.HTTPConnection(host.hostname or "", host.port or 80, timeout=PATIENCE_S)
        try:
            asked.putrequest(
                self.method, target or self.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers:
                if name.lower() not in _OF_ONE_CONNECTION:
                    asked.putheader(name, value)
            asked.putheader("Connection", "close")
            if content or self.method in ("PUT", "POST"):
                asked.putheader("Content-Length", str(len(content)))
            asked.endheaders(content or None)
            answer = asked.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())
        finally:
            asked.close()

    def reply(
        self, answer: Answer, first_bytes: int | None = None, declared: int | None = None
    ) -> None:
        """Send an answer, or only its head and the first bytes of its body.

        Args:
            answer: What upstream said, or a lie.
            first_bytes: Of the body; default: all of them.
            declared: What Content-Length says; default: the truth about the whole body.
        """
        self.answer = answer
        length = len(answer.body) if declared is None else declared
        if self.method == "HEAD":
            length = int(dict((k.lower(), v) for k, v in answer.headers).get("content-length", 0))
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        lines += [f"{k}: {v}" for k, v in answer.headers if k.lower() not in _OF_ONE_CONNECTION]
        lines += [f"Content-Length: {length}", "Connection: close"]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        body = b"" if self.method == "HEAD" else answer.body[:first_bytes]
        self.connection.sendall(body)
        self.sent_bytes = len(body)

    def reset(self) -> None:
        """Break the connection with a TCP RST, once what was sent has arrived."""
        deadline = time.monotonic() + PATIENCE_S
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.01)
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self.connection.detach())  # at once: the server would say a polite FIN first

    def wait_until_hung_up(self) -> None:
        """Say nothing more until the other side gives up."""
        select.select([self.connection], [], [], PATIENCE_S)

    def _unsent(self) -> int:
        """Return how many bytes the other side's machine has not acknowledged (SIOCOUTQ)."""
        answer = fcntl.ioctl(self.connection, termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])


Trick = Callable[[Exchange], None]


def pass_through(exchange: Exchange) -> None:
    """Change nothing."""
    exchange.reply(exchange.forward())


@dataclass(frozen=True)
class Rule:
    """Which exchanges get which trick.

    Attributes:
        matches: Looks at the request.
        trick: What happens to it.
        times: How often; afterwards the rule is spent.
    """

    matches: Callable[[Exchange], bool]
    trick: Trick
    times: float = 1


class Proxy:
    """One listener in front of one server.

    Args:
        upstream: Such as ``http://127.0.0.1:8333``.
        rules: The first that matches and is not spent has its way.
    """

    def __init__(self, upstream: str, rules: Sequence[Rule] = ()) -> None:
        self.upstream = upstream
        self.exchanges: list[Exchange] = []
        self._left = [[rule, rule.times] for rule in rules]
        self._lock = threading.Lock()
        self._server = self._listen(0)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, rule: Rule) -> None:
        """Follow one more rule from now on."""
        with self._lock:
            self._left.append([rule, rule.times])

    def start(self) -> None:
        """Accept connections, on the same port as before."""
        if self._server.socket.fileno() < 0:
            self._server = self._listen(self._server.server_port)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self._server.shutdown()
        self._server.server_close()

    def away_for(self, seconds: float) -> None:
        """Refuse connections from now on, for a while."""
        self.stop()
        later = threading.Timer(seconds, self.start)
        later.daemon = True
        later.start()

    def carry(self, exchange: Exchange) -> None:
        """Do to a request what the rules say."""
        self.exchanges.append(exchange)
        try:
            self._trick_for(exchange)(exchange)
        except (OSError, http.client.HTTPException):
            exchange.reset()  # one of the two sides is gone: so is the other

    def _trick_for(self, exchange: Exchange) -> Trick:
        with self._lock:
            for entry in self._left:
                rule, left = entry
                if left > 0 and rule.matches(exchange):
                    entry[1] = left if left == math.inf else left - 1
                    return rule.trick
        return pass_through

    def _listen(self, port: int) -> ThreadingHTTPServer:
        server = _Server(("127.0.0.1", port), _Handler)
        server.proxy = self
        return server


class _Server(ThreadingHTTPServer):
    """Hands every request to its proxy."""

    daemon_threads = True
    block_on_close = False
    proxy: Proxy

    def handle_error(self, *_: Any) -> None:
        """Say nothing: connections break here on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _carry(self) -> None:
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy = self.server.proxy  # type: ignore[attr-defined]
        headers = tuple(self.headers.items())
        proxy.carry(
            Exchange(self.command, self.path, headers, body, proxy.upstream, self.connection)
        )

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _carry  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing: URLs are secrets."""

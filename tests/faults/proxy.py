"""An HTTP proxy on loopback that can break single exchanges, as networks and servers do.

Each request is one connection, and passes byte for byte, with its own Host header, which SigV4
signs. `Rule`s say which exchange gets which trick and how often.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, responses
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.fakes.loopback import LoopbackServer

if TYPE_CHECKING:
    from tests.faults.scene import Scene

PATIENCE_S = 120.0
_OF_ONE_CONNECTION = {"connection", "expect", "keep-alive", "transfer-encoding", "content-length"}
Trick = Callable[["Exchange", "Scene"], None]


@dataclass(frozen=True)
class Answer:
    """What a server said, all of it."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = field(default=b"", repr=False)


class Exchange:
    """One request on its way, and what became of it.

    Attributes:
        target: Path and query, as they were sent.
        sent_bytes: Of the answer's body, that the other side's machine has acknowledged.
        answer: What was sent, of which perhaps not all.
        at: When it came in, in seconds of the monotonic clock.
    """

    def __init__(self, request: BaseHTTPRequestHandler, body: bytes, upstream: str) -> None:
        self.method, self.target, self.headers = request.command, request.path, request.headers
        self.body, self.at = body, time.monotonic()
        self.sent_bytes, self.answer = 0, None
        self._upstream, self._connection = urlsplit(upstream).netloc, request.connection

    @property
    def path(self) -> str:
        """The target without its query."""
        return urlsplit(self.target).path

    @property
    def is_presigned(self) -> bool:
        """Whether a URL's query gives the permission: so the worker asks, not the edge."""
        return "X-Amz-Signature=" in self.target

    def forward(self, target: str | None = None, body: bytes | None = None) -> Answer:
        """Ask upstream, with another target or body if told so."""
        content = self.body if body is None else body
        with closing(HTTPConnection(self._upstream, timeout=PATIENCE_S)) as asked:
            asked.putrequest(
                self.method, target or self.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _OF_ONE_CONNECTION:
                    asked.putheader(name, value)
            asked.putheader("Connection", "close")
            if content or self.method in ("PUT", "POST"):
                asked.putheader("Content-Length", str(len(content)))
            asked.endheaders(content or None)
            answer = asked.getresponse()
            return Answer(answer.status, tuple(answer.getheaders()), answer.read())

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
            length = int(dict(answer.headers).get("Content-Length", 0))
        lines = [f"HTTP/1.1 {answer.status} {responses.get(answer.status, '')}"]
        lines += [f"{k}: {v}" for k, v in answer.headers if k.lower() not in _OF_ONE_CONNECTION]
        lines += [f"Content-Length: {length}", "Connection: close"]
        self._connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        body = answer.body[:first_bytes]
        self._connection.sendall(body)
        self.sent_bytes = len(body)

    def pass_on(self, target: str | None = None, body: bytes | None = None) -> None:
        """Reply with what upstream says."""
        self.reply(self.forward(target, body))

    def reset(self) -> None:
        """Break the connection with a TCP RST, once what was sent has arrived."""
        deadline = time.monotonic() + PATIENCE_S
        while self._unsent() and time.monotonic() < deadline:
            time.sleep(0.01)
        linger = struct.pack("ii", 1, 0)
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        os.close(self._connection.detach())  # at once: the server would say a polite FIN first

    def break_tls(self) -> None:
        """Send what is no TLS record."""
        os.write(self._connection.fileno(), b"no TLS record")

    def wait_until_hung_up(self) -> None:
        """Say nothing more until the other side gives up."""
        select.select([self._connection], [], [], PATIENCE_S)

    def _unsent(self) -> int:
        """Return how many bytes the other side's machine has not acknowledged (SIOCOUTQ)."""
        answer = fcntl.ioctl(self._connection, termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])


@dataclass
class Rule:
    """Which exchanges of a scene get which trick.

    Attributes:
        matches: Looks at the request.
        trick: What happens to it.
        times: How often from now on; at zero the rule is spent.
        scene: Where it holds, once that is set.
    """

    matches: Callable[[Exchange], bool]
    trick: Trick
    times: float = 1
    scene: Scene | None = None

    def holds_for(self, exchange: Exchange) -> bool:
        """Whether the exchange is to be broken."""
        return self.times > 0 and self.matches(exchange) and self.scene.owns(exchange)


class Proxy(LoopbackServer):
    """One listener in front of one server; the first rule that holds has its way.

    With ``pem``, a key and its certificate, clients speak TLS to it.
    """

    def __init__(self, upstream: str = "", pem: Path | None = None) -> None:
        super().__init__()
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self.upstream = upstream
        self.exchanges: list[Exchange] = []
        self.rules: list[Rule] = []
        self._lock = threading.Lock()

    def away_for(self, seconds: float) -> None:
        """Refuse connections from now on, for a while."""
        self.stop()
        later = threading.Timer(seconds, self.start)
        later.daemon = True
        later.start()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Do to a request what the rules say."""
        request.close_connection = True
        exchange = Exchange(request, body, self.upstream)
        self.exchanges.append(exchange)
        with self._lock:
            rule = next((rule for rule in self.rules if rule.holds_for(exchange)), None)
            if rule is not None:
                rule.times -= 1
        try:
            if rule is None:
                exchange.pass_on()
            else:
                rule.trick(exchange, rule.scene)
        except (OSError, HTTPException):
            exchange.reset()  # one of the two sides is gone: so is the other

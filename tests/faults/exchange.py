"""One request on its way through the proxy: asked upstream, answered, cut off.

Byte for byte and with its own Host header, which SigV4 signs.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import select
import socket
import struct
import termios
import time
from dataclasses import dataclass, field
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

"""An HTTP proxy on loopback that can break single exchanges, as networks and servers do.

Each request is one connection. `Rule`s say which exchange gets which trick and how often; every
other exchange passes through.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.faults.exchange import Exchange

Trick = Callable[[Exchange], None]


def pass_through(exchange: Exchange) -> None:
    """Change nothing."""
    exchange.reply(exchange.forward())


@dataclass
class Rule:
    """Which exchanges get which trick.

    Attributes:
        matches: Looks at the request.
        trick: What happens to it.
        times: How often from now on; at zero the rule is spent.
    """

    matches: Callable[[Exchange], bool]
    trick: Trick
    times: float = 1


class Proxy:
    """One listener in front of one server.

    Args:
        upstream: Such as ``http://127.0.0.1:8333``.

    Attributes:
        rules: The first that matches and is not spent has its way.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.exchanges: list[Exchange] = []
        self.rules: list[Rule] = []
        self._lock = threading.Lock()
        self._server = self._listen(0)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

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
            for rule in self.rules:
                if rule.times > 0 and rule.matches(exchange):
                    rule.times -= 1
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

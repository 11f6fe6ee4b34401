"""The base of the loopback servers: HTTP/1.1 in threads, and one method that answers."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class LoopbackServer:
    """HTTP on a free port of 127.0.0.1; `answer` is called with each request."""

    def __init__(self) -> None:
        self._http = _Server(self, 0)
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Accept connections, on the same port as before."""
        if self._http.socket.fileno() < 0:
            self._http = _Server(self, self.port)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        raise NotImplementedError


def send(
    request: BaseHTTPRequestHandler,
    status: int,
    body: bytes = b"",
    cut: int | None = None,
    **headers: str,
) -> None:
    """Send an answer; of its body only `cut` bytes, before the connection is closed."""
    request.send_response(status)
    headers.setdefault("Content_Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body[:cut])
        request.close_connection |= cut is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: LoopbackServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, *where: Any) -> None:
        """Say nothing of broken connections, which some tests are about."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(*where)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else header and body wait 40 ms for each other
    server: _Server

    def _hand_over(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.owner.answer(self, body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _hand_over  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing: URLs are secrets."""

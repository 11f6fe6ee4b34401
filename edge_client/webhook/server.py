"""The receiver's HTTP server, in a thread. TLS is the business of the proxy in front of it."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import uvicorn

from edge_client.errors import BadUsage, NotConfigured
from edge_client.webhook.receiver import Receiver

MAX_CONNECTIONS = 200
STOP_S = 5
"""Requests that are under way at the end get so long."""


class Server:
    """Serves until it is left.

    Args:
        receiver: Answers.
        listen: ``HOST:PORT``; port 0 is any free one.
        on_end: Called when the server ended, for whatever reason.

    Raises:
        BadUsage: ``listen`` has another form.
        NotConfigured: The address cannot be had.
    """

    def __init__(self, receiver: Receiver, listen: str, on_end: Callable[[], None]) -> None:
        self._socket = _bound(listen)
        self._on_end = on_end
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
        logging.getLogger("uvicorn.access").disabled = True  # paths hold the secret: no handler's
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name="webhook", daemon=True)

    @property
    def url(self) -> str:
        """What a proxy forwards to."""
        host, port = self._socket.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._on_end()


def _bound(listen: str) -> socket.socket:
    """Return a listening socket. It names its protocol, else asyncio leaves TCP_NODELAY off."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadUsage(f"--listen {listen!r}: give HOST:PORT, such as 127.0.0.1:8787")
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, int(port), type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
        )[0]
        listener = socket.socket(family, kind, proto)
    except OSError as exc:
        raise NotConfigured(f"--listen {listen}: {exc.strerror}: check the host") from exc
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(MAX_CONNECTIONS)
    except OSError as exc:
        listener.close()
        raise NotConfigured(f"--listen {listen}: {exc.strerror}: choose another port") from exc
    return listener

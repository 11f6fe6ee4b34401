"""Serve the queue on a free loopback port, in a thread of this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Self

import uvicorn

from devstack.api import QueueApi
from devstack.queue import JobQueue, QueueConfig


class QueueServer:
    """RunPod's queue for one endpoint."""

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        config: QueueConfig | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.endpoint_id = endpoint_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = _listen(0)
        self._port: int = self._socket.getsockname()[1]
        queue = JobQueue(config, clock)
        self.events = queue.events
        self.api = QueueApi(queue, api_key)
        self._changes = self.api.changes
        self._app = self.api.app(endpoint_id)
        self._server: uvicorn.Server
        self._thread: threading.Thread

    @property
    def base_url(self) -> str:
        """What clients call RUNPOD_ENDPOINT_BASE_URL."""
        return f"http://127.0.0.1:{self._port}/v2"

    @property
    def endpoint_url(self) -> str:
        """Where this endpoint's routes are."""
        return f"{self.base_url}/{self.endpoint_id}"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release_polls()
        self._stop()

    def release_polls(self) -> None:
        """End the requests that are held open, so that workers can leave."""
        self._changes.is_closing = True
        self._call(self._changes.notify)

    def _start(self) -> None:
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._app,
                access_log=False,
                log_config=None,
                ws="none",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=2,
            )
        )
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="queue", daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._loop = None

    def _call(self, callback: Callable[[], None]) -> None:
        """Call back in the server's own thread, if it runs."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    async def _serve(self) -> None:
        self._changes.notify()  # requests wait in this loop from now on
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])


def _listen(port: int) -> socket.socket:
    """Return a listening socket that names its protocol.

    Without it asyncio leaves TCP_NODELAY off, and every answer takes 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener

"""A queue that goes away for a while, like a failing front end, and keeps its jobs."""

from __future__ import annotations

import asyncio
import threading
from time import sleep

from devstack.api import QueueServer, _listen

HANDOVER_S = 0.2  # an answer on loopback is read in less, however busy the machine


def restart(queue: QueueServer, down_s: float) -> None:
    """Cut and refuse connections for a while.

    A job that is being handed over is not cut off: its worker would never learn of it, and it
    would stay IN_PROGRESS until its timeout.
    """
    queue._changes.is_paused = True
    threading.Event().wait(HANDOVER_S)
    queue._call(lambda: _cut(queue))
    queue._stop()
    sleep(down_s)
    queue._changes.is_paused = False
    queue._socket = _listen(queue._port)
    queue._start()


def _cut(queue: QueueServer) -> None:
    """Refuse new connections and end all others, in one step of the event loop."""
    for server in queue._server.servers:
        server.close()
    _end_connections(queue)
    # A connection that was being accepted appears a moment later.
    asyncio.get_running_loop().call_later(0.05, _end_connections, queue)


def _end_connections(queue: QueueServer) -> None:
    for connection in list(queue._server.server_state.connections):
        connection.transport.abort()
    queue._changes.notify()

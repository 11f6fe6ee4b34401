"""The SDK's heartbeat, from a process that is forked before the models load.

runpod 1.12.0 forks it when they are loaded, and the child keeps their memory, 1 to 3 GB.
Without an address to ping there is no child. Imported before the SDK, which it imports late.
upstream: runpod 1.12.0, ``rp_ping``, no issue known; can go when it pings from a small process.
"""

from __future__ import annotations

import multiprocessing
import os
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

_CAPACITY = 65536  # ``PING_MIRROR_CAPACITY``


class Heartbeat:
    """A child that waits until the SDK wants to start its own, then is that one."""

    def __init__(self) -> None:
        self._begin: Connection | None = None
        if "RUNPOD_WEBHOOK_PING" in os.environ:
            self._jobs = multiprocessing.Array("c", _CAPACITY)
            waits, self._begin = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.Process(
                target=_beat, args=(waits, self._begin, self._jobs), name="heartbeat", daemon=True
            )
            child.start()
            waits.close()

    def attach(self) -> None:
        """Have the SDK, imported meanwhile, use this child and its memory for the jobs' ids."""
        from runpod.serverless.modules import rp_ping, worker_state

        if self._begin is not None:
            mirror = partial(worker_state.PingJobMirror, _CAPACITY, _holding(self._jobs))
            worker_state.PingJobMirror = mirror
            rp_ping.Process = lambda **_: self

    def start(self) -> None:
        """Let the child ping; the SDK calls this."""
        if self._begin is not None:
            self._begin.send(None)


def _holding(jobs: Any) -> Any:
    """Return what the SDK's mirror takes for ``multiprocessing``."""
    return SimpleNamespace(Array=lambda *_: jobs)


def _beat(waits: Connection, begin: Connection, jobs: Any) -> None:
    begin.close()  # so that the worker's end is heard
    try:
        waits.recv()
    except EOFError:
        return
    from runpod.serverless.modules.rp_ping import Heartbeat as SdkHeartbeat
    from runpod.serverless.modules.worker_state import PingJobMirror

    SdkHeartbeat.process_loop(PingJobMirror(_CAPACITY, _holding(jobs)))

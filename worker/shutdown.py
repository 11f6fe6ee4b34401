"""On SIGTERM: finish the job at hand, take no other.

runpod 1.12.0 leaves its long poll for a job open after SIGTERM, takes what it brings, and ends
without running it (``rp_scale.get_jobs``). Here both long polls end at once, and a job that
arrives all the same is refused: it is never pinged for, so RunPod queues it again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any

from runpod.serverless.modules import rp_scale

logger = logging.getLogger(__name__)
Poll = Callable[..., Awaitable[Any]]


def take_no_job_after_sigterm() -> None:
    """Replace the SDK's two long polls and its signal handler; call it before ``start``."""
    stop = _Stop()
    rp_scale.get_job = stop.ends(rp_scale.get_job, nothing=None)
    rp_scale.get_stop_signals = stop.ends(rp_scale.get_stop_signals, nothing=[])
    original = rp_scale.JobScaler.handle_shutdown

    def handle_shutdown(self: Any, signum: int, frame: FrameType | None) -> None:
        logger.info("%s: finishing the job at hand", signal.Signals(signum).name)
        original(self, signum, frame)
        stop.set()

    rp_scale.JobScaler.handle_shutdown = handle_shutdown


class _Stop:
    """Set from a signal handler, waited for in the SDK's event loop."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiting: dict[asyncio.Future[None], asyncio.AbstractEventLoop] = {}

    def set(self) -> None:
        """Wake every poll."""
        self._is_set = True
        for future, loop in list(self._waiting.items()):
            loop.call_soon_threadsafe(_resolve, future)

    def ends(self, poll: Poll, nothing: Any) -> Poll:
        """Return a poll that gives ``nothing`` once the stop is set."""

        async def polled(*arguments: Any) -> Any:
            if self._is_set:
                return nothing
            loop = asyncio.get_running_loop()
            stopped = loop.create_future()
            self._waiting[stopped] = loop
            asking = asyncio.ensure_future(poll(*arguments))
            try:
                await asyncio.wait({asking, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if self._is_set:
                    return nothing
                return await asking
            finally:
                del self._waiting[stopped]
                asking.cancel()
                stopped.cancel()

        return polled


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

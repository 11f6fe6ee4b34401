"""Patch three faults of runpod 1.12.0: two of its job loop (``rp_scale``), one of its log.

After SIGTERM it takes one more job and drops it: here both long polls end at once, and a job that
arrives all the same is refused, so that RunPod queues it again. It looks for the end of a job once
a second: here it asks for the next job as soon as one is answered. At DEBUG it prints every input.
upstream: runpod 1.12.0, no issue known; can go when `test_job_loop` passes without it.
"""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from runpod.serverless.modules import rp_scale
from runpod.serverless.modules.rp_logger import RunPodLogger

from bucketscribe_contract.redact import scrub

logger = logging.getLogger(__name__)
Poll = Callable[..., Awaitable[Any]]
_LOOK_S = 1.0  # the SDK's own pause


def patch_job_loop() -> None:
    """Patch the SDK; call it before ``start``."""
    _refuse_jobs_after_sigterm()
    _ask_for_the_next_job_at_once(rp_scale.JobScaler)
    _scrub_what_is_printed(RunPodLogger)


def _scrub_what_is_printed(sdk_log: Any) -> None:
    original = sdk_log.log

    def log(self: Any, message: object, level: str = "INFO", *rest: Any) -> None:
        if level != "DEBUG" or self.level in ("DEBUG", "TRACE"):  # else it is not printed
            message = scrub(str(message))  # before the SDK cuts a URL in two
        original(self, message, level, *rest)

    sdk_log.log = log


def _refuse_jobs_after_sigterm() -> None:
    stop = _Stop()
    rp_scale.get_job = stop.ends(rp_scale.get_job, nothing=None)
    rp_scale.get_stop_signals = stop.ends(rp_scale.get_stop_signals, nothing=[])
    original = rp_scale.JobScaler.handle_shutdown

    def handle_shutdown(self: Any, signum: int, frame: FrameType | None) -> None:
        logger.info("%s: finishing the current job", signal.Signals(signum).name)
        original(self, signum, frame)
        stop.set()

    rp_scale.JobScaler.handle_shutdown = handle_shutdown


def _ask_for_the_next_job_at_once(scaler: Any) -> None:
    """Have the loop that asks wait for a job's end where it would sleep.

    Args:
        scaler: ``JobScaler``, whose loop awaits ``set_scale`` and then sleeps if it has no room.
    """
    set_scale, handle_job = scaler.set_scale, scaler.handle_job
    ended = asyncio.Event()

    async def set_scale_and_wait(self: Any) -> None:
        await set_scale(self)
        while self.is_alive() and self.current_occupancy() >= self.current_concurrency:
            ended.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), _LOOK_S)
        if not self.is_alive():  # the loop asks once more before it looks
            self.current_concurrency = self.current_occupancy()

    async def handle_job_and_tell(self: Any, *arguments: Any) -> None:
        try:
            await handle_job(self, *arguments)
        finally:
            ended.set()

    scaler.set_scale, scaler.handle_job = set_scale_and_wait, handle_job_and_tell


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

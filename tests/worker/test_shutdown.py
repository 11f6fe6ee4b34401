"""After SIGTERM the long polls end, and what they bring is refused."""

import asyncio
import threading
from typing import Any

from worker.shutdown import _Stop


async def poll_until_stopped(stop: _Stop, poll: Any) -> Any:
    """Poll in a loop that is stopped from another thread after a moment."""
    threading.Timer(0.1, stop.set).start()
    return await asyncio.wait_for(stop.ends(poll, nothing="nothing")("session"), 5)


def test_an_open_poll_ends_at_once() -> None:
    cancelled = []

    async def poll(_: str) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return "a job"

    assert asyncio.run(poll_until_stopped(_Stop(), poll)) == "nothing"
    assert cancelled == [True]


def test_a_job_that_arrives_after_the_stop_is_refused() -> None:
    async def poll(_: str) -> str:
        return "a job"

    stop = _Stop()
    assert asyncio.run(stop.ends(poll, nothing=None)("session")) == "a job"
    stop.set()
    assert asyncio.run(stop.ends(poll, nothing=None)("session")) is None


def test_the_sdk_still_has_what_is_replaced() -> None:
    from runpod.serverless.modules import rp_scale

    assert callable(rp_scale.get_job)
    assert callable(rp_scale.get_stop_signals)
    assert callable(rp_scale.JobScaler.handle_shutdown)

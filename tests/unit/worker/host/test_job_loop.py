"""After SIGTERM no job is taken; before it, jobs follow each other at once."""

import asyncio
import threading
import time
from typing import Any

import pytest

from worker.host.job_loop import _ask_for_the_next_job_at_once, _scrub_what_is_printed, _Stop


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
    assert callable(rp_scale.JobScaler.set_scale)
    assert callable(rp_scale.JobScaler.handle_job)


@pytest.mark.parametrize("on_runpod", [True, False])
def test_a_jobs_input_that_the_sdk_prints_is_scrubbed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], on_runpod: bool
) -> None:
    """Also where the SDK cuts a long message in two."""
    from runpod.serverless.modules.rp_logger import RunPodLogger

    class Log(RunPodLogger):  # type: ignore[misc]  # the SDK has no types
        level = "DEBUG"

    if on_runpod:
        monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "ep")
    _scrub_what_is_printed(Log)
    url = f"https://b/k?{'a' * 1000}X-Amz-Signature=5ec2e7{'5ec2e7' * 1000}"
    Log.debug(object.__new__(Log), {"audio_url": url, "language": "en"}, "job-1")
    printed = capsys.readouterr().out
    assert "'https://b/k?***', 'language': 'en'" in printed
    assert "5ec2e7" not in printed


def pauses_between_jobs(job_s: float, count: int, is_mended: bool) -> list[float]:
    """Run jobs through the SDK's own loop; tell how long it took after each to have the next."""
    from runpod.serverless.modules import rp_scale

    class Scaler(rp_scale.JobScaler):  # type: ignore[misc]  # the SDK has no types
        pass

    if is_mended:
        _ask_for_the_next_job_at_once(Scaler)
    taken: list[float] = []
    ended: list[float] = []

    async def fetch(*_: Any) -> list[dict[str, Any]]:
        taken.append(time.monotonic())
        return [{"id": f"job-{len(taken)}", "input": {}}]

    async def handle(*_: Any) -> None:
        await asyncio.sleep(job_s)
        ended.append(time.monotonic())
        if len(ended) == count:
            scaler.kill_worker()

    async def run() -> None:
        loops = [scaler.get_jobs(None), scaler.run_jobs(None)]
        await asyncio.wait_for(asyncio.gather(*loops), 30)

    scaler = Scaler({"handler": handle})
    scaler.jobs_fetcher, scaler.jobs_handler = fetch, handle
    asyncio.run(run())
    return [after - before for before, after in zip(ended, taken[1:], strict=False)]


def test_the_next_job_is_asked_for_at_once() -> None:
    assert max(pauses_between_jobs(0.3, 3, is_mended=True)) < 0.2
    assert min(pauses_between_jobs(0.3, 3, is_mended=False)) > 0.4  # else there is nothing to mend


def test_a_worker_that_is_stopped_by_its_job_takes_no_other() -> None:
    assert pauses_between_jobs(0.3, 1, is_mended=True) == []

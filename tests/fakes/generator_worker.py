"""A worker on the real SDK that hands over its input's ``parts`` one by one, and `at_work`.

``"wait": true`` never ends by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devstack.guard import Guard
from devstack.process import ChildProcess
from devstack.server import QueueServer
from devstack.stack import ROOT
from devstack.workers import worker_environment
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID

COMMAND = (sys.executable, "-m", "tests.fakes.generator_worker")


async def generate(job: dict[str, Any]) -> AsyncIterator[Any]:
    """Follow the instructions of the input."""
    for part in job["input"].get("parts", ()):
        yield part
    while job["input"].get("wait"):
        await asyncio.sleep(0.1)


@contextmanager
def at_work(folder: Path) -> Iterator[QueueServer]:
    """Yield a queue with such a worker."""
    with QueueServer(ENDPOINT_ID, API_KEY) as server, Guard() as guard:
        env = worker_environment(server.endpoint_url, "worker-1", folder) | {
            "PYTHONPATH": str(ROOT)
        }
        worker = ChildProcess(COMMAND, env, ROOT, folder / "worker.log", guard)
        try:
            yield server
        finally:
            server.release_polls()
            worker.stop(1)  # the SDK lets a cancelled generator run on


if __name__ == "__main__":
    import runpod

    config = {"handler": generate, "return_aggregate_stream": True}
    sys.exit(runpod.serverless.start(config))

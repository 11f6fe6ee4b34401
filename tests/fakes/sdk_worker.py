"""A worker on the real SDK that returns its input's ``parts``, and `at_work`.

``"wait": true`` never ends by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devstack.api import QueueServer
from devstack.process import ChildProcess, Guard
from devstack.stack import ROOT, worker_environment
from tests.fakes.queue_client import API_KEY, ENDPOINT_ID

COMMAND = (sys.executable, "-m", "tests.fakes.sdk_worker")


async def answer(job: dict[str, Any]) -> list[Any]:
    """Follow the instructions of the input."""
    while job["input"].get("wait"):
        await asyncio.sleep(0.1)
    return [*job["input"]["parts"]]


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
            worker.stop(1)  # a job that waits does not end


if __name__ == "__main__":
    import runpod

    sys.exit(runpod.serverless.start({"handler": answer}))

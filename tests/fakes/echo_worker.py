"""A worker on the real SDK that answers what the job's input gives as ``echo``.

``"env": true`` adds its variables; ``"sleep_s": N`` takes its time; ``"started": PATH`` is written.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import runpod


async def handle(job: dict[str, Any]) -> dict[str, Any]:
    """Follow the instructions of the input."""
    order = job["input"]
    if "started" in order:
        Path(order["started"]).touch()
    await asyncio.sleep(order.get("sleep_s", 0))
    env = dict(os.environ) if order.get("env") else None
    return {"echo": order.get("echo"), "pid": os.getpid(), "env": env}


if __name__ == "__main__":
    sys.exit(runpod.serverless.start({"handler": handle}))

"""A stand-in worker on the real SDK: does what the job's input says.

`{"echo": X}` answers X; `"progress": [..]` reports each value; `"sleep_s": N` takes its time;
`"fail": T` fails; `"refresh": true` asks for a fresh worker; `"env": true` names its variables.
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
        Path(order["started"]).write_text(str(os.getpid()))
    for value in order.get("progress", []):
        runpod.serverless.progress_update(job, value)
        await asyncio.sleep(0.3)
    try:
        await asyncio.sleep(order.get("sleep_s", 0))
    except asyncio.CancelledError:
        Path(order["stopped"]).write_text("stopped")
        raise
    if "fail" in order:
        return {"error": order["fail"]}
    answer = {"echo": order.get("echo"), "pid": os.getpid(), "worker": os.environ["RUNPOD_POD_ID"]}
    if order.get("env"):
        answer["env"] = dict(os.environ)
    return answer | ({"refresh_worker": True} if order.get("refresh") else {})


if __name__ == "__main__":
    sys.exit(runpod.serverless.start({"handler": handle}))

"""RunPod's entry point: loads the models once and hands each job to ``worker.pipeline``.

``python handler.py`` runs the job in ``test_input.json``; ``--test_input '{"input": …}'`` another.
Their output is JSON on stdout.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from bucketscribe_contract import FailureCode, JobFailure
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.host.heartbeat import Heartbeat
from worker.host.log import configure_logging, log_uncaught_errors
from worker.runtime import Runtime


def local_job() -> dict[str, Any] | None:
    """Return the job to run without a queue, if any; leaves the process if it is none.

    The SDK has this, too: it reads the job when the models are loaded, and prints Python's repr.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--test_input")
    given, others = parser.parse_known_args()
    text = given.test_input
    if text is None and (others or "RUNPOD_WEBHOOK_GET_JOB" in os.environ):
        return None
    try:
        job = json.loads(Path("test_input.json").read_text("utf-8") if text is None else text)
        if isinstance(job["input"], dict):
            job.setdefault("id", "local_test")
            return dict(job)
    except (KeyError, OSError, TypeError, ValueError) as exc:
        sys.exit(f"no job ({type(exc).__name__}: {exc}): give --test_input '{{\"input\": {{…}}}}'")
    sys.exit("no job: its input has to be an object")


configure_logging()
runtime = Runtime()
if __name__ == "__main__":
    local = local_job()
    log_uncaught_errors()
    heartbeat = Heartbeat()  # first, while this process is small and has no threads
    runtime.load_early()  # while the SDK is imported, which for a second asks lscpu and its like

import runpod  # noqa: E402


async def handler(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a thread, so that the SDK's loop hears of a cancellation meanwhile."""
    token = CancelToken()
    work = asyncio.create_task(asyncio.to_thread(run, job, token))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        token.cancel()
        await asyncio.wait([work])  # the GPU is free again before the next job is taken
        raise


def run(job: dict[str, Any], token: CancelToken) -> dict[str, Any]:
    """Return the job's output, or its failure; never raises: the SDK would post a traceback."""
    send = runpod.serverless.progress_update
    progress = runtime.begin(job.get("id"), lambda update: send(job, update))
    try:
        return runtime.finish(runtime.run(job.get("input"), token, progress))
    except WorkerError as exc:
        failure = exc.to_failure()
    except Exception as exc:
        logging.getLogger("handler").exception("job %s failed", job.get("id"))
        message = f"{type(exc).__name__} in the worker; its log has the details"
        failure = JobFailure.of(FailureCode.INTERNAL, message, progress.stage)
    finally:
        progress.close()
    return runtime.finish({"error": failure.model_dump_json(exclude_none=True)})


if __name__ == "__main__":
    if local is not None:
        output = asyncio.run(handler(local))
        print(json.dumps(output))  # noqa: T201 - the result
        sys.exit("error" in output)
    from worker.host.job_loop import patch_job_loop

    runtime.register_checks(runpod.serverless.register_fitness_check)
    patch_job_loop()
    heartbeat.attach()
    runpod.serverless.start({"handler": handler})

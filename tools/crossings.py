"""Counts the calls that cross a file, in real runs of a checkout's edge client and worker.

Takes a checkout, whatever its modules are called, and a recording; returns what was counted. The
runs go through `edge_client.__main__.main` and `handler.handler`, each in a process of its own that
begins in this file, on our development stack. Raises `SystemExit` where one fails.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devstack.stack import Stack

PRODUCT = ("edge_client", "worker", "bucketscribe_contract", "contract", "riff", "handler.py")
REPEATS = 7
RUN_S = 600.0
EXAMPLE = "example"
SESSION = "users/user/audio/sessions/{}/{}"
JSON = {"Content-Type": "application/json"}


class Crossings:
    """Notes the calls into the product's files, in the threads that are begun afterwards, too."""

    def __init__(self, checkout: Path) -> None:
        self._checkout = checkout
        self._calls: deque[tuple[str, str]] = deque()  # threads may append to it at once
        self._file_of = cache(self._find)
        threading.setprofile(self._see)
        sys.setprofile(self._see)

    def take(self) -> dict[str, Any]:
        """Return what was noted since it was last taken."""
        calls = [self._calls.popleft() for _ in range(len(self._calls))]
        count = sum(caller != "" for caller, _ in calls)
        return {"calls": count, "files": sorted({file for _, file in calls})}

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (file := self._file_of(frame.f_code.co_filename)):
            caller, above = "", frame.f_back
            while above is not None:
                if above.f_code.co_filename.startswith("<frozen importlib"):
                    return
                caller = caller or self._file_of(above.f_code.co_filename)
                above = above.f_back
            if caller != file:
                self._calls.append((caller, file))

    def _find(self, name: str) -> str:
        if not Path(name).is_relative_to(self._checkout):
            return ""
        file = Path(name).relative_to(self._checkout)
        return file.as_posix() if file.parts[0] in PRODUCT else ""


def run_client(result: Path, checkout: Path, *arguments: str) -> None:
    """Run the edge client in this process; store the crossings."""
    crossings, sys.argv = Crossings(checkout), ["edge-client", *arguments]
    try:
        importlib.import_module("edge_client.__main__").main()
    finally:
        sys.setprofile(None)
        result.write_text(json.dumps(crossings.take()), encoding="utf-8")


def run_jobs(result: Path, checkout: Path, job: str) -> None:
    """Run a job again and again in this process; store the warm ones' crossings, and the output."""
    crossings, runs = Crossings(checkout), []
    handler = importlib.import_module("handler").handler
    for _ in range(1 + REPEATS):
        crossings.take()
        output = asyncio.run(handler({"id": "job", "input": json.loads(job)}))
        runs.append(crossings.take())
    sys.setprofile(None)
    result.write_text(json.dumps({"runs": runs[1:], "output": output}), encoding="utf-8")


def answer_jobs(example: Path, _: Path) -> None:
    """Be a worker of the stack, by the SDK's variables, that has its answer ready."""
    import requests

    me, http = os.environ["RUNPOD_POD_ID"], requests.Session()
    take = os.environ["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", me)
    done = os.environ["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", me)
    while True:
        taken = http.get(take, timeout=RUN_S)
        if taken.status_code == 200:
            job = taken.json()
            summary, transcript = json.loads(example.read_text(encoding="utf-8"))
            summary["request_id"] = transcript["request_id"] = job["input"].get("request_id")
            body = json.dumps(transcript).encode()
            summary["result"] = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
            headers = job["input"].get("result_headers", JSON)
            http.put(job["input"]["result_url"], body, headers=headers, timeout=RUN_S)
            http.post(
                done.replace("$ID", job["id"]), json.dumps({"output": summary}), timeout=RUN_S
            )


class Runs:
    """Runs a checkout's client and worker on a stack whose worker answers at once.

    The checkout's code wins over what is installed; `folder` is everybody's home.
    """

    def __init__(self, stack: Stack, checkout: Path, models: Path, folder: Path) -> None:
        self._checkout, self._folder = checkout, folder
        self._env = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG")}
        self._env |= {"HOME": str(folder), "PYTHONPATH": str(checkout), **stack.env}
        self._env |= {"MODELS_DIR": str(models), "ALLOW_LOOPBACK_URLS": "1"}
        self._s3, self._bucket = stack.s3.client(), stack.s3.bucket

    def client(self, recording: bytes, *arguments: str, sessions: tuple[str, ...]) -> Any:
        """Return the crossings of the client over these sessions; of some runs the least."""
        runs = []
        for _ in range(REPEATS):
            for old in self._s3.list_objects_v2(Bucket=self._bucket).get("Contents", ()):
                self._s3.delete_object(Bucket=self._bucket, Key=old["Key"])
            for name in sessions:
                self._put(SESSION.format(name, "audio.wav"), recording)
            runs.append(self._run("client", *arguments))
        return least(runs)

    def warm_job(self, recording: bytes) -> Any:
        """Return the crossings of a warm job, of some the least; its output becomes the example."""
        audio, result = (SESSION.format("job", name) for name in ("audio.wav", "result"))
        self._put(audio, recording)
        job = {
            "audio_url": self._signed("get_object", audio),
            "result_url": self._signed("put_object", result, ContentType=JSON["Content-Type"]),
        }
        done = self._run("jobs", json.dumps(job))
        if "error" in done["output"]:
            raise SystemExit(f"the job fails: {done['output']['error']}")
        stored = self._s3.get_object(Bucket=self._bucket, Key=result)["Body"].read()
        example = json.dumps([done["output"], json.loads(stored)])
        (self._folder / EXAMPLE).write_text(example, encoding="utf-8")
        return least(done["runs"])

    def _put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)

    def _signed(self, method: str, key: str, **more: str) -> str:
        where = {"Bucket": self._bucket, "Key": key, **more}
        return self._s3.generate_presigned_url(method, Params=where)

    def _run(self, mode: str, *arguments: str) -> Any:
        result = self._folder / "result"
        done = subprocess.run(  # noqa: S603  this very file
            [*command(mode, result, self._checkout), *arguments],
            cwd=self._checkout,
            env=self._env,
            capture_output=True,
            text=True,
            timeout=RUN_S,
        )
        if done.returncode != 0:
            raise SystemExit(f"{mode} {arguments} fails:\n{done.stdout}{done.stderr}")
        return json.loads(result.read_text(encoding="utf-8"))


def command(mode: str, file: Path, checkout: Path) -> list[str]:
    """Return the command that does one of MODES in a process of its own."""
    return [sys.executable, str(Path(__file__).resolve()), mode, str(file), str(checkout)]


def least(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run with the fewest calls: how often a job is looked at is a matter of chance."""
    return min(runs, key=lambda run: int(run["calls"]))


def crossings_of(checkout: Path, models: Path, recording: bytes, folder: Path) -> dict[str, Any]:
    """Return the crossings of `submit --wait`, of a `batch` of three sessions, of a warm job.

    `models` are demo models, `recording` is a WAV file; `folder`, empty, is for what is left.
    """
    from devstack.stack import Stack

    worker = command("answers", folder / EXAMPLE, checkout)
    with Stack(logs=folder / "logs", models=models, worker_command=worker) as stack:
        runs = Runs(stack, checkout, models, folder)
        warm = runs.warm_job(recording)
        return {
            "submit": runs.client(recording, "submit", "one", "--wait", sessions=("one",)),
            "batch": runs.client(recording, "batch", sessions=("one", "two", "three")),
            "warm_job": warm,
        }


MODES: dict[str, Callable[..., None]] = {
    "client": run_client,
    "jobs": run_jobs,
    "answers": answer_jobs,
}

if __name__ == "__main__":
    sys.path.pop(0)  # this folder: the checkout's code runs without it
    mode, file, root, *more = sys.argv[1:]
    MODES[mode](Path(file), Path(root), *more)

"""A worker without models and without the SDK, for thousands of jobs: it answers at once.

``python -m tests.soak.batch.instant_worker`` under the SDK's variables. It speaks the SDK's
protocol
(long polls of ``job-take-batch``, ``job-done``, ``ping``) and does what a worker does: one byte of
the recording is read, a transcript is stored, a summary posted. Unlike the SDK it posts a result
again until the queue takes it, so that a queue that restarts loses none.

What it does for a session is in the session's name, after the last ``--``, or in ``hotwords``:

    fail           fails for good
    flaky          the first job of the session fails in a way that another can mend
    upload_failed  the transcript comes in the job's output
    slow-N         takes N seconds
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import queue
import threading
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    JobSummary,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    UploadFailed,
)

SLOTS = 12
PING_S = 2.0
PATIENCE_S = 60.0
AGAIN_S = 0.1


class Http(threading.local):
    """A connection a thread and host: keep-alive, and the very URL that was signed."""

    def __init__(self) -> None:
        self._connections: dict[str, HTTPConnection] = {}

    def send(
        self, method: str, url: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Send a request; an OSError or HTTPException leaves no connection behind."""
        parts = urlsplit(url)
        target = url[url.index(parts.netloc) + len(parts.netloc) :]
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self._connections.setdefault(
            parts.netloc, HTTPConnection(parts.netloc, timeout=PATIENCE_S)
        )
        try:
            connection.request(method, target, body, names)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            connection.close()
            raise


http = Http()


def insist(method: str, url: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send a request again until it is answered, by anything but 5xx."""
    deadline_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            status, answer = http.send(method, url, body, **headers)
            if status < 500:
                return status, answer
            problem: object = status
        except (OSError, HTTPException) as exc:
            problem = type(exc).__name__
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{method} of {urlsplit(url).path}: {problem}")
        time.sleep(AGAIN_S)


def transcript(request_id: str | None) -> bytes:
    """Return a small transcript that readers accept."""
    line = Segment(id=0, start=0.0, end=1.5, text="Hello.", speaker="SPEAKER_00", words=())
    return (
        Transcript(
            segments=(line,),
            speakers=("SPEAKER_00",),
            language="en",
            language_probability=None,
            duration_seconds=2.0,
            processing_time_seconds=0.1,
            models={"transcribe": "none"},
            request_id=request_id,
        )
        .model_dump_json()
        .encode()
    )


def summary(request_id: str | None, stored: StoredResult) -> JobSummary:
    """Return what a worker answers that has stored its transcript."""
    return JobSummary(
        segments_count=1,
        speakers_count=1,
        duration_seconds=2.0,
        processing_time_seconds=0.1,
        language="en",
        result=stored,
        timings={Stage.TRANSCRIBE: 0.1},
        request_id=request_id,
    )


class Worker:
    """One worker with many slots."""

    def __init__(self) -> None:
        env = os.environ
        worker_id = env["RUNPOD_POD_ID"]
        take = env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", worker_id)
        self._take = take.replace("/job-take/", "/job-take-batch/")
        self._done = env["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", worker_id)
        self._ping = env["RUNPOD_WEBHOOK_PING"].replace("$RUNPOD_POD_ID", worker_id)
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._failed_once: set[str] = set()

    def run(self) -> None:
        """Work until the process is ended."""
        for target in (self._ping_for_ever, *[self._work] * SLOTS):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self._slots.acquire()
            free = 1
            while self._slots.acquire(blocking=False):
                free += 1
            jobs = self._taken(free)
            for job in jobs:
                self._jobs.put(job)
            self._slots.release(free - len(jobs)) if free > len(jobs) else None

    def _taken(self, most: int) -> list[dict[str, Any]]:
        status, answer = insist("GET", f"{self._take}&job_in_progress=0&batch_size={most}")
        jobs: list[dict[str, Any]] = json.loads(answer) if status == 200 else []
        return jobs

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            result = json.dumps(self._answer(job["input"])).encode()
            url = f"{self._done.replace('$ID', job['id'])}&isStream=false"
            insist("POST", url, result, Content_Type="application/x-www-form-urlencoded")
            self._slots.release()

    def _answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return what is posted: an output, or an error."""
        name = unquote(urlsplit(asked["result_url"]).path).split("/")[-2]
        what, _, number = (asked.get("hotwords") or name.rpartition("--")[2]).partition("-")
        body = transcript(asked.get("request_id"))
        stored = StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
        answers: dict[str, Callable[[], dict[str, Any]]] = {
            "fail": lambda: _failed(FailureCode.AUDIO_UNREADABLE, "no audio in it", Stage.DECODE),
            "flaky": lambda: self._flaky(name, asked, body, stored),
            "upload_failed": lambda: _undelivered(body, stored),
            "slow": lambda: _after(float(number or 1), asked, body, stored),
        }
        return answers.get(what, lambda: _delivered(asked, body, stored))()

    def _flaky(
        self, name: str, asked: dict[str, Any], body: bytes, stored: StoredResult
    ) -> dict[str, Any]:
        if name in self._failed_once:
            return _delivered(asked, body, stored)
        self._failed_once.add(name)
        return _failed(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.FETCH)

    def _ping_for_ever(self) -> None:
        while True:
            insist("GET", self._ping)
            time.sleep(PING_S)


def _after(
    seconds: float, asked: dict[str, Any], body: bytes, stored: StoredResult
) -> dict[str, Any]:
    time.sleep(seconds)
    return _delivered(asked, body, stored)


def _delivered(asked: dict[str, Any], body: bytes, stored: StoredResult) -> dict[str, Any]:
    status, answer = insist("GET", asked["audio_url"], Range="bytes=0-0")
    if status != 206 or len(answer) != 1:
        return _failed(FailureCode.AUDIO_FORBIDDEN, f"S3 answers {status}", Stage.FETCH)
    status, _ = insist("PUT", asked["result_url"], body, Content_Type="application/json")
    if status != 200:
        return _undelivered(body, stored)
    return {"output": summary(asked.get("request_id"), stored).model_dump(mode="json")}


def _failed(code: FailureCode, message: str, stage: Stage) -> dict[str, Any]:
    return {"error": JobFailure.of(code, message, stage).model_dump_json()}


def _undelivered(body: bytes, stored: StoredResult) -> dict[str, Any]:
    failure = JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.DELIVER)
    packed = base64.b64encode(gzip.compress(body)).decode()
    lost = UploadFailed(failure=failure, transcript_gzip_base64=packed, result=stored)
    return {"output": lost.model_dump(mode="json")}


if __name__ == "__main__":
    Worker().run()

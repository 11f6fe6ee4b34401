"""A worker without models: reads a byte of the recording, stores a small transcript, answers.

``python -m tests.fakes.worker_process`` answers at once, many jobs at a time, and posts a result
again until the queue takes it, so that a queue that restarts loses none. What it does is in the
session's name after the last ``--``: see `Answers`.
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
AWAY = JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.FETCH)


class Http(threading.local):
    """A connection a thread and host: keep-alive, and the very URL that was signed."""

    def __init__(self) -> None:
        self._connections: dict[str, HTTPConnection] = {}

    def send(
        self, method: str, url: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes]:
        """Send a request; an OSError or HTTPException leaves no connection behind."""
        host = urlsplit(url).netloc
        target = url[url.index(host) + len(host) :]
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection = self._connections.setdefault(host, HTTPConnection(host, timeout=PATIENCE_S))
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
    lines = [("SPEAKER_00", "Hello & welcome."), ("SPEAKER_01", "Thank you.")]
    segments = (
        Segment(id=i, start=i * 2.0, end=i * 2.0 + 1.5, text=text, speaker=who, words=())
        for i, (who, text) in enumerate(lines)
    )
    made = Transcript(
        segments=tuple(segments),
        speakers=("SPEAKER_00", "SPEAKER_01"),
        language="en",
        language_probability=None,
        duration_seconds=4.0,
        processing_time_seconds=0.1,
        models={"transcribe": "none"},
        request_id=request_id,
    )
    return made.model_dump_json().encode()


class Answers:
    """What is posted for a job: an output or an error, by what the job is to do.

    fail            fails for good
    flaky           the first job of the session fails in a way that another can mend
    upload_failed   the transcript comes in the job's output
    slow-N          takes N seconds, 60 if there is no number
    """

    def __init__(self) -> None:
        self._failed_once: set[str] = set()

    def pause_s(self, asked: dict[str, Any]) -> float:
        """Return how long a job takes before it is done; the caller sleeps as it can be ended."""
        what, number = _wish(asked)
        return float(number or 60) if what == "slow" else 0.0

    def to(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Do a job."""
        name, (what, _) = _name(asked), _wish(asked)
        if what == "fail":
            failure = JobFailure.of(FailureCode.AUDIO_UNREADABLE, "no audio in it", Stage.DECODE)
            return {"error": failure.model_dump_json()}
        if what == "flaky" and name not in self._failed_once:
            self._failed_once.add(name)
            return {"error": AWAY.model_dump_json()}
        return _deliver(asked, is_away=what == "upload_failed")


def _name(asked: dict[str, Any]) -> str:
    return unquote(urlsplit(asked["result_url"]).path).split("/")[-2]


def _wish(asked: dict[str, Any]) -> tuple[str, str]:
    what, _, number = _name(asked).rpartition("--")[2].partition("-")
    return what, number


def _deliver(asked: dict[str, Any], is_away: bool) -> dict[str, Any]:
    """Read the recording, store the transcript; return a summary, or both where S3 is away."""
    request_id = asked.get("request_id")
    body = transcript(request_id)
    stored = StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    status, first = insist("GET", asked["audio_url"], Range="bytes=0-0")
    if status != 206 or len(first) != 1:
        failure = JobFailure.of(FailureCode.AUDIO_FORBIDDEN, f"S3 answers {status}", Stage.FETCH)
        return {"error": failure.model_dump_json()}
    if not is_away:
        status, _ = insist("PUT", asked["result_url"], body, Content_Type="application/json")
        is_away = status != 200
    if is_away:
        packed = base64.b64encode(gzip.compress(body)).decode()
        lost = UploadFailed(failure=AWAY, transcript_gzip_base64=packed, result=stored)
        return lost.model_dump(mode="json")
    return JobSummary(
        segments_count=2,
        speakers_count=2,
        duration_seconds=4.0,
        processing_time_seconds=0.1,
        language="en",
        result=stored,
        timings={Stage.TRANSCRIBE: 0.1},
        request_id=request_id,
    ).model_dump(mode="json")


class InstantWorker:
    """The SDK's protocol (``job-take-batch``, ``job-done``, ``ping``) over many slots."""

    def __init__(self) -> None:
        env = os.environ
        worker_id = env["RUNPOD_POD_ID"]
        take = env["RUNPOD_WEBHOOK_GET_JOB"].replace("$ID", worker_id)
        self._take = take.replace("/job-take/", "/job-take-batch/")
        self._done = env["RUNPOD_WEBHOOK_POST_OUTPUT"].replace("$RUNPOD_POD_ID", worker_id)
        self._ping = env["RUNPOD_WEBHOOK_PING"].replace("$RUNPOD_POD_ID", worker_id)
        self._slots = threading.BoundedSemaphore(SLOTS)
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._answers = Answers()

    def run(self) -> None:
        """Work until the process is ended."""
        for target in (self._ping_for_ever, *[self._work] * SLOTS):
            threading.Thread(target=target, daemon=True).start()
        while True:
            self._slots.acquire()
            free = 1
            while self._slots.acquire(blocking=False):
                free += 1
            status, answer = insist("GET", f"{self._take}&job_in_progress=0&batch_size={free}")
            jobs = json.loads(answer) if status == 200 else []
            for job in jobs:
                self._jobs.put(job)
            for _ in range(free - len(jobs)):
                self._slots.release()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            time.sleep(self._answers.pause_s(job["input"]))
            output = self._answers.to(job["input"])
            answer = output if "error" in output else {"output": output}
            url = f"{self._done.replace('$ID', job['id'])}&isStream=false"
            form = "application/x-www-form-urlencoded"
            insist("POST", url, json.dumps(answer).encode(), Content_Type=form)
            self._slots.release()

    def _ping_for_ever(self) -> None:
        while True:
            insist("GET", self._ping)
            time.sleep(PING_S)


if __name__ == "__main__":
    InstantWorker().run()

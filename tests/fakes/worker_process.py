"""A worker without models: reads a byte of the recording, stores a small transcript, answers.

``python -m tests.fakes.worker_process`` answers at once, many jobs at a time, and posts a result
again until the queue takes it, so that a queue that restarts loses none. What it does is in the
session's name after the last ``--``:

fail            fails for good
internal        fails in a way that another job might mend, each time
flaky           the first job of the session fails in a way that another can mend
upload_failed   the transcript comes in the job's output
slow-N          takes N seconds

It does `SLOTS` jobs at a time. Without the file that `WHISPER_MODEL` names no job succeeds.
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
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import urllib3

from bucketscribe_contract import (
    FailureCode,
    JobFailure,
    JobInput,
    JobSummary,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    UploadFailed,
)

SLOTS = int(os.environ.get("SLOTS", "12"))
MODEL = Path(os.environ.get("WHISPER_MODEL", __file__))
PING_S = 2.0
AWAY = JobFailure.of(FailureCode.STORAGE_UNAVAILABLE, "S3 is away", Stage.FETCH)
EXISTS = JobFailure.of(FailureCode.RESULT_EXISTS, "a transcript is there", Stage.DELIVER)
FAILURES = {
    "fail": JobFailure.of(FailureCode.AUDIO_UNREADABLE, "no audio in it", Stage.DECODE),
    "internal": JobFailure.of(FailureCode.INTERNAL, "a defect", Stage.TRANSCRIBE),
}
NO_MODEL = JobFailure.of(FailureCode.MODEL_UNAVAILABLE, "no such model", Stage.VALIDATE)
http = urllib3.PoolManager(
    maxsize=2 * SLOTS,
    timeout=60.0,
    retries=urllib3.Retry(  # for a minute: of anything but an answer below 500
        600, backoff_factor=0.1, backoff_max=0.1, allowed_methods=None,
        status_forcelist=range(500, 600),
    ),
)  # fmt: skip


def transcript(request_id: str | None) -> bytes:
    """Return a small transcript that readers accept."""
    lines = [("SPEAKER_00", "Hello & welcome."), ("SPEAKER_01", "Thank you.")]
    segments = [
        Segment(id=i, start=i * 2.0, end=i * 2.0 + 1.5, text=text, speaker=who, words=())
        for i, (who, text) in enumerate(lines)
    ]
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
            answer = http.request("GET", f"{self._take}&job_in_progress=0&batch_size={free}")
            jobs = answer.json() if answer.status == 200 else []
            for job in jobs:
                self._jobs.put(job)
            for _ in range(free - len(jobs)):
                self._slots.release()

    def _work(self) -> None:
        while True:
            job = self._jobs.get()
            output = self._do(job["input"])
            if isinstance(output, JobFailure):
                answer = {"error": output.model_dump_json()}
            else:
                answer = {"output": output.model_dump(mode="json")}
            url = f"{self._done.replace('$ID', job['id'])}&isStream=false"
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            http.request("POST", url, body=json.dumps(answer).encode(), headers=form)
            self._slots.release()

    def _do(self, asked: dict[str, Any]) -> JobFailure | JobSummary | UploadFailed:
        """Do a job, as its session's name says."""
        name = unquote(urlsplit(asked["result_url"]).path).split("/")[-2]
        what, _, number = name.rpartition("--")[2].partition("-")
        if not MODEL.exists():
            return NO_MODEL
        if what == "slow":
            time.sleep(float(number))
        if what in FAILURES:
            return FAILURES[what]
        if what == "flaky" and name not in self._failed_once:
            self._failed_once.add(name)
            return AWAY
        return deliver(asked, is_away=what == "upload_failed")

    def _ping_for_ever(self) -> None:
        while True:
            http.request("GET", self._ping)
            time.sleep(PING_S)


def deliver(asked: dict[str, Any], is_away: bool) -> JobFailure | JobSummary | UploadFailed:
    """Read the recording, store the transcript; return a summary, or both where S3 is away."""
    request_id = asked.get("request_id")
    body = transcript(request_id)
    stored = StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())
    first = http.request("GET", asked["audio_url"], headers={"Range": "bytes=0-0"})
    if first.status != 206 or len(first.data) != 1:
        message = f"S3 answers {first.status}"
        return JobFailure.of(FailureCode.AUDIO_FORBIDDEN, message, Stage.FETCH)
    status = 503
    if not is_away:
        form = JobInput.model_validate(asked).result_headers
        status = http.request("PUT", asked["result_url"], body=body, headers=form).status
        is_away = status != 200
    if is_away:
        packed = base64.b64encode(gzip.compress(body)).decode()
        return UploadFailed(
            failure=AWAY if status != 412 else EXISTS,
            transcript_gzip_base64=packed,
            result=stored,
            sent_sha256=stored.sha256,
            request_id=request_id,
        )
    return JobSummary(
        segments_count=2,
        speakers_count=2,
        duration_seconds=4.0,
        processing_time_seconds=0.1,
        language="en",
        result=stored,
        timings={Stage.TRANSCRIBE: 0.1},
        request_id=request_id,
    )


if __name__ == "__main__":
    InstantWorker().run()

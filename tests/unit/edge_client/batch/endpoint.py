"""An endpoint whose jobs do as their session's name says, on the tests' own loopback servers."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from bucketscribe_contract import FailureCode, JobFailure, Stage
from edge_client.session import DEFAULT, Session
from tests.fakes.servers import RunpodServer, S3Server, send
from tests.unit.edge_client.samples import transcript, wav

LOOKS = 2
"""At its second look a job is done."""


@dataclass
class Job:
    """A job, and the how-many-th of its session it is."""

    session: Session
    request_id: str
    number: int
    looks: int = 0


class Endpoint:
    """Answers for a `RunpodServer`: a job is done after some looks, and stores its transcript.

    A session named ``bad-…`` fails for good, ``flaky-…`` at its first job, ``oom-…`` always in a
    way that another job might mend, ``internal-…`` always INTERNAL, ``model-…`` until `is_mended`;
    ``slow-…`` is done when `release` is set. Without `has_workers` all jobs wait.

    Attributes:
        posts: How often each session was submitted.
        refuse: Called with (method, path); returns a status to refuse a request.
        most_in_flight: The most jobs that were in flight at once.
    """

    def __init__(self, runpod: RunpodServer, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
        self._s3, self._turn = s3, threading.Lock()
        self._jobs: dict[str, Job] = {}
        self.posts: Counter[str] = Counter()
        self.most_in_flight = 0
        self.release = threading.Event()
        self.is_mended, self.has_workers = False, True
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        monkeypatch.setattr(runpod, "answer", self.answer)

    def add(self, name: str, user: str = "u1") -> Session:
        """Put a recording into the bucket."""
        session = Session(user, name)
        self._s3.put(session.audio_key, wav(2))
        return session

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        path = request.path.removeprefix("/v2/ep1")
        with self._turn:
            status = self.refuse(request.command, path)
            reply: Any = {}
            if status is None:
                reply = self._run(json.loads(body)["input"]) if path == "/run" else self._look(path)
        send(request, status or (200 if reply else 404), json.dumps(reply).encode())

    def _run(self, wanted: dict[str, Any]) -> dict[str, Any]:
        key = unquote(urlsplit(wanted["audio_url"]).path).split("/", 2)[2]
        session = DEFAULT.match(key)
        self.posts[session.name] += 1
        job_id = f"job-{len(self._jobs) + 1}"
        self._jobs[job_id] = Job(session, wanted["request_id"], self.posts[session.name])
        in_flight = sum(job.looks < LOOKS for job in self._jobs.values())
        self.most_in_flight = max(self.most_in_flight, in_flight)
        return {"id": job_id, "status": "IN_QUEUE"}

    def _look(self, path: str) -> dict[str, Any]:
        if path == "/health":
            queued = 0 if self.has_workers else self.posts.total()
            return {"jobs": {"inQueue": queued, "inProgress": 0}, "workers": {"running": 0}}
        job_id = path.rpartition("/")[2]
        job = self._jobs.get(job_id)
        if job is None:
            return {}
        if not self.has_workers:
            return {"id": job_id, "status": "IN_QUEUE"}
        job.looks += 1
        kind = job.session.name.partition("-")[0]
        if job.looks < LOOKS or (kind == "slow" and not self.release.is_set()):
            return {"id": job_id, "status": "IN_PROGRESS"}
        codes = {"bad": FailureCode.AUDIO_UNREADABLE, "oom": FailureCode.OUT_OF_MEMORY}
        codes["internal"] = FailureCode.INTERNAL
        if job.number == 1:
            codes["flaky"] = FailureCode.INTERNAL
        if not self.is_mended:
            codes["model"] = FailureCode.MODEL_UNAVAILABLE
        if kind in codes:
            failure = JobFailure.of(codes[kind], "it failed", Stage.TRANSCRIBE)
            return {"id": job_id, "status": "FAILED", "error": failure.model_dump_json()}
        self._s3.put(job.session.result_key, transcript(request_id=job.request_id))
        return {"id": job_id, "status": "COMPLETED", "executionTime": 1500}

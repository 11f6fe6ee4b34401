"""One set of real models, loaded once, and a loopback S3 that answers as it is told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING

import pytest
import stamina

from bucketscribe_contract import PresignedUrl
from tests.fakes.loopback import LoopbackServer
from worker.host.log import quiet_libraries
from worker.settings import WorkerSettings
from worker.urls import UrlPolicy

if TYPE_CHECKING:
    from worker.models.load import Models


LOOPBACK = UrlPolicy(allow_loopback=True)


@pytest.fixture(autouse=True, scope="session")
def no_sleep_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture(scope="session")
def models() -> Models:
    """The demo models, as a worker loads them that is to give stock's numbers."""
    from worker.models.folder import find_models
    from worker.models.load import load_models

    quiet_libraries()
    settings = WorkerSettings(fidelity="stock")
    return load_models(settings, find_models(settings))


@dataclass
class Answer:
    """What the loopback S3 sends for one request."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop_after: int | None = None


@dataclass
class LoopbackS3:
    """Answers in turn with `answers`, the last one for ever; notes what it was asked."""

    port: int
    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    requests: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def url(self, path: str = "/bucket/key?X-Amz-Signature=5ec2e7") -> PresignedUrl:
        """A URL of this server."""
        return PresignedUrl(f"http://127.0.0.1:{self.port}{path}")


class _Server(LoopbackServer):
    def __init__(self) -> None:
        super().__init__()
        self.s3 = LoopbackS3(self.port)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.s3.requests.append((request.command, request.path, dict(request.headers), body))
        answers = self.s3.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        headers = {"Date": request.date_time_string()} | answer.headers
        if "Transfer-Encoding" not in headers:
            headers.setdefault("Content-Length", str(len(answer.body)))
        request.send_response_only(answer.status)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(answer.body[: answer.drop_after])
        request.close_connection = True


@pytest.fixture
def s3() -> Iterator[LoopbackS3]:
    """A server on loopback, for one test."""
    with _Server() as server:
        yield server.s3

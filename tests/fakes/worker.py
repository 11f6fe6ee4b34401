"""One set of real models, loaded once, and a loopback S3 that answers as it is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
import stamina

from bucketscribe_contract import PresignedUrl
from worker.host.log import quiet_libraries
from worker.settings import WorkerSettings

if TYPE_CHECKING:
    from worker.models.load import Models


@pytest.fixture(autouse=True, scope="session")
def no_sleep_between_retries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=3):
        yield


@pytest.fixture(scope="session")
def models() -> Models:
    """The demo models, as a worker loads them."""
    from worker.models.folder import find_models
    from worker.models.load import load_models

    quiet_libraries()
    settings = WorkerSettings()
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


@pytest.fixture
def s3() -> Iterator[LoopbackS3]:
    """A server on loopback, for one test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    loopback = LoopbackS3(server.server_port)
    server.loopback = loopback  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield loopback
    server.shutdown()
    server.server_close()
    thread.join()


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        loopback: LoopbackS3 = self.server.loopback  # type: ignore[attr-defined]
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        loopback.requests.append((self.command, self.path, dict(self.headers), sent))
        answers = loopback.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.send_response_only(answer.status)
        if "Date" not in answer.headers:
            self.send_header("Date", self.date_time_string())
        if "Content-Length" not in answer.headers and "Transfer-Encoding" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body[: answer.drop_after])
        self.close_connection = True

    do_GET = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""

"""Small real servers on loopback: an S3 that keeps objects in a dict, a RunPod that reads a script.

They speak HTTP to the real boto3 and requests, so what is tested is what crosses the wire.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.listing import Stored, answer_to
from tests.fakes.loopback import LoopbackServer, send

BUCKET = "recordings"
ECHOED = "the request's own"
FOLDERS_A_PAGE = 2
"""Small, so that paging is always tested."""


class S3Server(LoopbackServer):
    """Path-style S3 with conditions, ranges and listings; any signature will do.

    Attributes:
        objects: Key to object.
        refuse: Called with (method, key); returns (status, code, message if any) to fail a request.
        calls: (method, key) of every request.
        page_keys: The most keys of a LIST's page.
        lists: The query of every LIST.
        conditional: Whether conditions of a PUT count.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.objects: dict[str, Stored] = {}
        self.refuse: Callable[[str, str], tuple[Any, ...] | None] = lambda method, key: None
        self.calls: list[tuple[str, str]] = []
        self.now = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
        self.page_keys = 1000
        self.lists: list[dict[str, str]] = []
        self.conditional = True

    def put(self, key: str, body: bytes, at: datetime | None = None) -> None:
        """Store an object, as of ``at``."""
        self.objects[key] = Stored(body, at or self.now)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        parts = urlsplit(request.path)
        _, bucket, *rest = unquote(parts.path).split("/", 2)
        key = rest[0] if rest else ""
        self.calls.append((request.command, key))
        refusal = self.refuse(request.command, key)
        if bucket != BUCKET:
            refusal = (404, "NoSuchBucket")
        if refusal is not None:
            self._error(request, *refusal)
        elif not key:
            self._bucket(request, parse_qs(parts.query))
        elif request.command == "PUT":
            self._put(request, key, body)
        else:
            self._get(request, key)

    def _error(
        self, request: BaseHTTPRequestHandler, status: int, code: str, more: str = ""
    ) -> None:
        send(request, status, f"<Error><Code>{code}</Code>{more}</Error>".encode())

    def _put(self, request: BaseHTTPRequestHandler, key: str, body: bytes) -> None:
        there, wanted = self.objects.get(key), request.headers.get("If-Match")
        if not self.conditional:
            there = wanted = None
        if wanted is not None and there is None:
            return self._error(request, 404, "NoSuchKey")
        is_other = wanted is not None and wanted != there.etag
        if is_other or (there and request.headers.get("If-None-Match") == "*"):
            return self._error(request, 412, "PreconditionFailed")
        self.objects[key] = Stored(body, self.now, request.headers.get("Content-Type"))
        return send(request, 200, ETag=self.objects[key].etag)

    def _get(self, request: BaseHTTPRequestHandler, key: str) -> None:
        found = self.objects.get(key)
        if found is None:
            return self._error(request, 404, "NoSuchKey")
        headers = {"Last_Modified": format_datetime(found.modified_at, usegmt=True)}
        headers["ETag"] = found.etag
        if found.is_archived and request.command == "GET":
            return self._error(request, 403, "InvalidObjectState")
        wanted = request.headers.get("Range")
        if not wanted:
            return send(request, 200, found.body, **headers)
        if not found.body:
            return self._error(request, 416, "InvalidRange")
        first, last = map(int, wanted.removeprefix("bytes=").split("-"))
        body = found.body[first : last + 1]
        span = f"bytes {first}-{first + len(body) - 1}/{len(found.body)}"
        return send(request, 206, body, Content_Range=span, **headers)

    def _bucket(self, request: BaseHTTPRequestHandler, query: dict[str, list[str]]) -> None:
        self.lists.append({name: values[0] for name, values in query.items()})
        page_keys = FOLDERS_A_PAGE if "delimiter" in query else self.page_keys
        body = answer_to(self.objects, self.lists[-1], page_keys)
        return send(request, 200, body, x_amz_bucket_region="eu-west-1")


@dataclass
class Call:
    """A request that came in."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


@dataclass
class Reply:
    """One scripted answer. ``drop``: close the connection after the request was read."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


class RunpodServer(LoopbackServer):
    """Answers from scripts, one list of replies per path; the last reply repeats.

    `ECHOED` in a reply becomes the ``request_id`` of the last submission.
    Where a script says job-1, a status names the job that was asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.script: dict[str, list[Reply]] = {}
        self._posted = b""
        self.calls: list[Call] = []

    def on(self, path: str, *replies: Reply) -> None:
        """Say what a path answers."""
        self.script[path] = list(replies)

    def count(self, path: str) -> int:
        """Count the requests to a path."""
        return sum(call.path == path for call in self.calls)

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        path = request.path.removeprefix("/v2/ep1")
        parsed = json.loads(body) if body else None
        self.calls.append(Call(request.command, path, parsed, dict(request.headers)))
        replies = self.script.get(path, [Reply(status=404)])
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if reply.drop:
            request.close_connection = True
            return
        told = reply.body
        if path.startswith(("/status/", "/cancel/")) and isinstance(told, dict):
            told = told | ({"id": path.rpartition("/")[2]} if told.get("id") == "job-1" else {})
        payload = told if isinstance(told, bytes) else json.dumps(told).encode()
        if parsed and path == "/run":
            self._posted = str(parsed["input"].get("request_id")).encode()
        payload = payload.replace(ECHOED.encode(), self._posted)
        send(request, reply.status, payload, **reply.headers)

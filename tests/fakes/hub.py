"""A hub on this machine, as huggingface_hub asks it: listings, `resolve`, a CDN, gated models.

Takes files by repository; answers over HTTP on 127.0.0.1, and its CDN is `localhost`, another
host. It counts what it sends, and can be told to misbehave.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".safetensors", ".npz")
TOKEN = "hf_" + "lOoPbAcK" * 4


@dataclass
class Seen:
    """One request."""

    method: str
    host: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """What the server holds, what it was asked, and how it is to misbehave."""

    port: int = 0
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    accepted: bool = True  # whether TOKEN's owner accepted the licences
    listing: dict[str, object] | None = None  # what is answered for every listing
    seen: list[Seen] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # bytes of files, by name
    cuts: dict[str, list[int]] = field(default_factory=dict)  # by name: close after so many bytes
    busy: list[int] = field(default_factory=list)  # statuses to answer the next requests with
    tampered: dict[str, bytes] = field(default_factory=dict)  # by name: sent instead
    before_sending: Callable[[str], object] = lambda name: None
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self, **more: str) -> dict[str, str]:
        """What sends the builder here."""
        plain = {"TORCHAUDIO_MODELS_URL": "torchaudio", "NLTK_DATA_URL": "nltk"}
        mirrors = {variable: f"{self.url}/{path}" for variable, path in plain.items()}
        return {"HF_ENDPOINT": self.url, **mirrors, **more}


@contextmanager
def serve(hub: Hub) -> Iterator[None]:
    """Serve a hub on a free port for as long as the block runs."""
    handler = type("Handler", (_Handler,), {"hub": hub})
    with _Server(("127.0.0.1", 0), handler) as server:
        hub.port = server.server_address[1]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def commit_of(repo: str) -> str:
    """A revision: 40 hex digits."""
    return hashlib.sha1(repo.encode(), usedforsecurity=False).hexdigest()


def git_blob(content: bytes) -> str:
    """The id that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up in the middle are what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path, headers = self.hub, unquote(urlsplit(self.path).path), self.headers
        host = (headers["Host"] or "").partition(":")[0]
        with hub.lock:
            seen = Seen(self.command, host, path, headers["Range"], headers["Authorization"])
            hub.seen.append(seen)
            status = hub.busy.pop(0) if hub.busy else None
        stored = path.removeprefix("/cdn/").removeprefix("/api/resolve-cache/")
        if status is not None:
            self._reply(status, {"Retry-After": "7"})
        elif path.startswith("/api/models/"):
            self._list(path)
        elif stored != path:
            repo = next(repo for repo in hub.repos if stored.startswith(repo + "/"))
            content = hub.repos[repo][stored.removeprefix(repo + "/")]
            marks = {"ETag": f'"{_etag(stored, content)}"', "X-Repo-Commit": commit_of(repo)}
            self._send(stored, content, marks)
        elif "/resolve/" in path:
            self._resolve(path)
        elif path.lstrip("/") in hub.plain:
            self._send(path.lstrip("/"), hub.plain[path.lstrip("/")], {})
        else:
            self._reply(404, {})

    def _list(self, path: str) -> None:
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repo not in self.hub.repos:
            self._reply(401, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", commit_of(repo)):
            self._reply(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [_sibling(name, body) for name, body in self.hub.repos[repo].items()]
            document = {"id": repo, "sha": commit_of(repo), "siblings": siblings}
            body = json.dumps(self.hub.listing or document).encode()
            self._reply(200, {"Content-Type": "application/json"}, body)

    def _resolve(self, path: str) -> None:
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        content = self.hub.repos.get(repo, {}).get(name)
        if repo in self.hub.gated and not self._admit():
            return
        if content is None or revision != commit_of(repo):
            self._reply(404, {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"X-Repo-Commit": revision, "X-Linked-Size": str(len(content))}
        headers["X-Linked-Etag"] = f'"{_etag(name, content)}"'
        # Large files are on the CDN, small ones on the same host; both as the hub does it.
        cdn = f"http://localhost:{self.hub.port}/cdn/{repo}/{name}?Signature=s1gnature"
        cache = f"/api/resolve-cache/{repo}/{name}"
        large = name.endswith(LARGE)
        self._reply(302 if large else 307, headers | {"Location": cdn if large else cache})

    def _admit(self) -> bool:
        given = self.headers["Authorization"]
        if given == f"Bearer {TOKEN}" and self.hub.accepted:
            return True
        if given not in (None, f"Bearer {TOKEN}"):
            self._reply(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
        else:
            self._reply(403 if given else 401, {"X-Error-Code": "GatedRepo"})
        return False

    def _send(self, name: str, content: bytes, headers: dict[str, str]) -> None:
        hub, content, first, status = self.hub, self.hub.tampered.get(name, content), 0, 200
        if self.command == "GET":
            hub.before_sending(name)
        if self.headers["Range"]:
            first, status = int(self.headers["Range"][6:].partition("-")[0]), 206
            if first >= len(content):
                self._reply(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers |= {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
        body, cut = content[first:], None
        if self.command == "GET":
            with hub.lock:  # before the client can know that it has everything
                cut = hub.cuts[name].pop(0) if hub.cuts.get(name) else None
                hub.sent[name] += len(body[:cut])
        self._reply(status, headers | {"Accept-Ranges": "bytes"}, body, cut)

    def _reply(
        self, status: int, headers: dict[str, str], body: bytes = b"", cut: int | None = None
    ) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_blob(content)


def _sibling(name: str, content: bytes) -> dict[str, object]:
    sibling = {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
    lfs = {"sha256": _etag(name, content), "size": len(content), "pointerSize": 134}
    return sibling | ({"lfs": lfs} if name.endswith(LARGE) else {})

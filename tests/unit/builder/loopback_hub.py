"""A hub on this machine: the part of the Hugging Face Hub's protocol that a download needs.

Listings, `resolve` with its headers, redirects to a CDN under another host name, gated
repositories, plain files. It counts what it sends, and can be told to misbehave.
`test_loopback_hub.py` holds it against the official client.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".bin", ".safetensors", ".npz")
TOKEN = "hf_" + "lOoPbAcK" * 4


def commit_of(repo: str) -> str:
    """A revision: 40 hex digits."""
    return hashlib.sha1(repo.encode(), usedforsecurity=False).hexdigest()


@dataclass
class Seen:
    """One request."""

    method: str
    host: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class LoopbackHub:
    """What the server holds, what it was asked, and how it is to misbehave."""

    port: int = 0
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    accepted: bool = True  # whether TOKEN's owner accepted the licences
    seen: list[Seen] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)  # bytes of files, by name
    cuts: dict[str, list[int]] = field(default_factory=dict)  # by name: close after so many bytes
    busy: list[int] = field(default_factory=list)  # statuses to answer the next requests with
    tampered: dict[str, bytes] = field(default_factory=dict)  # by name: sent instead
    ignores_ranges: bool = False
    resets: bool = False  # cut as a dying server does, not as a proxy that gives up
    before_sending: Callable[[str], object] = lambda name: None
    lock: Lock = field(default_factory=Lock)

    @property
    def url(self) -> str:
        """The endpoint."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def bodies(self) -> list[Seen]:
        """The requests that were answered with a file's bytes."""
        return [s for s in self.seen if s.method == "GET" and not s.path.startswith("/api/models")]

    def environment(self, **more: str) -> dict[str, str]:
        """What sends the builder here."""
        return {
            "HF_ENDPOINT": self.url,
            "TORCHAUDIO_MODELS_URL": f"{self.url}/torchaudio",
            "NLTK_DATA_URL": f"{self.url}/nltk",
            **more,
        }


def make_handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    """The request handler of one hub."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Stay silent."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            with hub.lock:
                headers = self.headers
                hub.seen.append(
                    Seen(
                        self.command,
                        (headers["Host"] or "").partition(":")[0],
                        path,
                        headers["Range"],
                        headers["Authorization"],
                    )
                )
                status = hub.busy.pop(0) if hub.busy else None
            if status is not None:
                self._reply(status, {"Retry-After": "7"})
            elif path.startswith("/api/models/"):
                self._list(path)
            elif path.startswith(("/cdn/", "/api/resolve-cache/")):
                self._stored(path)
            elif "/resolve/" in path:
                self._resolve(path)
            elif path.lstrip("/") in hub.plain:
                name = path.lstrip("/")
                self._send(name, hub.plain[name], {})
            else:
                self._reply(404, {})

        def _list(self, path: str) -> None:
            repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
            if repo not in hub.repos:
                self._reply(401, {"X-Error-Code": "RepoNotFound"})
            elif revision not in ("main", commit_of(repo)):
                self._reply(404, {"X-Error-Code": "RevisionNotFound"})
            else:
                blobs = "blobs" in parse_qs(urlsplit(self.path).query)
                files = [
                    _sibling(name, content, blobs) for name, content in hub.repos[repo].items()
                ]
                document = {"id": repo, "sha": commit_of(repo), "siblings": files}
                document |= {"gated": "auto" if repo in hub.gated else False, "private": False}
                body = json.dumps(document).encode()
                self._reply(200, {"Content-Type": "application/json"}, body)

        def _resolve(self, path: str) -> None:
            repo, _, rest = path.lstrip("/").partition("/resolve/")
            revision, _, name = rest.partition("/")
            content = hub.repos.get(repo, {}).get(name)
            if repo in hub.gated and not self._admit(repo):
                return
            if content is None or revision not in ("main", commit_of(repo)):
                self._reply(404, {"X-Error-Code": "EntryNotFound"})
                return
            headers = {
                "X-Repo-Commit": commit_of(repo),
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{_etag(name, content)}"',
            }
            # The CDN is another host, small files are on the same one; both as the hub does it.
            if name.endswith(LARGE):
                cdn = f"http://localhost:{hub.port}/cdn/{repo}/{name}?Signature=s1gnature"
                self._reply(302, headers | {"Location": cdn})
            else:
                self._reply(307, headers | {"Location": f"/api/resolve-cache/{repo}/{name}"})

        def _admit(self, repo: str) -> bool:
            given = self.headers["Authorization"]
            if given == f"Bearer {TOKEN}" and hub.accepted:
                return True
            if given not in (None, f"Bearer {TOKEN}"):
                self._reply(401, {"X-Error-Message": "Invalid credentials in Authorization header"})
            else:
                self._reply(403 if given else 401, {"X-Error-Code": "GatedRepo"})
            return False

        def _stored(self, path: str) -> None:
            for repo, files in hub.repos.items():
                for name, content in files.items():
                    if path.endswith(f"/{repo}/{name}"):
                        extra = {
                            "ETag": f'"{_etag(name, content)}"',
                            "X-Repo-Commit": commit_of(repo),
                        }
                        self._send(f"{repo}/{name}", content, extra)
                        return
            self._reply(404, {})

        def _send(self, name: str, content: bytes, headers: dict[str, str]) -> None:
            content = hub.tampered.get(name, content)
            hub.before_sending(name)
            first, status = 0, 200
            if self.headers["Range"] and not hub.ignores_ranges:
                first, status = int(self.headers["Range"][6:].partition("-")[0]), 206
                if first >= len(content):
                    self._reply(416, {"Content-Range": f"bytes */{len(content)}"})
                    return
                headers |= {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"}
            body = content[first:]
            with hub.lock:
                cut = hub.cuts[name].pop(0) if hub.cuts.get(name) else None
            self._reply(status, headers | {"Accept-Ranges": "bytes"}, body, cut, name)

        def _reply(
            self,
            status: int,
            headers: dict[str, str],
            body: bytes = b"",
            cut: int | None = None,
            name: str | None = None,
        ) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if name is not None:
                with hub.lock:  # before the client can know that it has everything
                    hub.sent[name] += len(body[:cut])
            self.wfile.write(body[:cut])
            if cut is not None:
                self._hang_up()

        def _hang_up(self) -> None:
            self.close_connection = True
            if hub.resets:
                linger = struct.pack("ii", 1, 0)  # closing sends RST, not FIN
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up in the middle are what some tests are about."""


def serve(hub: LoopbackHub) -> ThreadingHTTPServer:
    """Bind a hub to a free port; the caller runs and closes the server."""
    server = _Server(("127.0.0.1", 0), make_handler(hub))
    hub.port = server.server_address[1]
    return server


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_blob(content)


def git_blob(content: bytes) -> str:
    """The id that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _sibling(name: str, content: bytes, blobs: bool) -> dict[str, object]:
    if not blobs:
        return {"rfilename": name}
    large = name.endswith(LARGE)
    lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    sibling = {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
    return sibling | ({"lfs": lfs} if large else {})

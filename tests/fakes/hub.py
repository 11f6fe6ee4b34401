"""A hub on this machine, as huggingface_hub asks it: listings, `resolve`, a CDN, gated models.

Its CDN is `localhost`, another host than 127.0.0.1.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from threading import Lock
from urllib.parse import unquote, urlsplit

from tests.fakes.loopback import LoopbackServer, send

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


class Hub(LoopbackServer):
    """What the server holds, what it was asked, and how it is to misbehave.

    Attributes:
        repos: Files by repository.
        plain: Files by path.
        gated: Repositories that ask for a token.
        accepted: Whether TOKEN's owner accepted the licences.
        listing: What is answered for every listing.
        seen: Every request.
        sent: Bytes of files, by name.
        cuts: By name: close the connection after so many bytes, once for each number.
        busy: Statuses to answer the next requests with.
        tampered: By name: sent instead.
        before_sending: Called with the name.
    """

    def __init__(self) -> None:
        super().__init__()
        self.repos: dict[str, dict[str, bytes]] = {}
        self.plain: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.accepted = True
        self.listing: dict[str, object] | None = None
        self.seen: list[Seen] = []
        self.sent: Counter[str] = Counter()
        self.cuts: dict[str, list[int]] = {}
        self.busy: list[int] = []
        self.tampered: dict[str, bytes] = {}
        self.before_sending: Callable[[str], object] = lambda name: None
        self._lock = Lock()

    def environment(self, **more: str) -> dict[str, str]:
        """What sends the builder here."""
        plain = {"TORCHAUDIO_MODELS_URL": "torchaudio", "NLTK_DATA_URL": "nltk"}
        mirrors = {variable: f"{self.url}/{path}" for variable, path in plain.items()}
        return {"HF_ENDPOINT": self.url, **mirrors, **more}

    def answer(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        """Answer one request."""
        path, headers = unquote(urlsplit(request.path).path), request.headers
        host = (headers["Host"] or "").partition(":")[0]
        seen = Seen(request.command, host, path, headers["Range"], headers["Authorization"])
        with self._lock:
            self.seen.append(seen)
            status = self.busy.pop(0) if self.busy else None
        stored = path.removeprefix("/cdn/").removeprefix("/api/resolve-cache/")
        if status is not None:
            send(request, status, Retry_After="7")
        elif path.startswith("/api/models/"):
            self._list(request, path)
        elif stored != path:
            repo = next(repo for repo in self.repos if stored.startswith(repo + "/"))
            content = self.repos[repo][stored.removeprefix(repo + "/")]
            marks = {"ETag": f'"{_etag(stored, content)}"', "X_Repo_Commit": commit_of(repo)}
            self._send(request, stored, content, **marks)
        elif "/resolve/" in path:
            self._resolve(request, path)
        elif path.lstrip("/") in self.plain:
            self._send(request, path.lstrip("/"), self.plain[path.lstrip("/")])
        else:
            send(request, 404)

    def _list(self, request: BaseHTTPRequestHandler, path: str) -> None:
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repo not in self.repos:
            return send(request, 401, X_Error_Code="RepoNotFound")
        if revision not in ("main", commit_of(repo)):
            return send(request, 404, X_Error_Code="RevisionNotFound")
        siblings = [_sibling(name, body) for name, body in self.repos[repo].items()]
        document = {"id": repo, "sha": commit_of(repo), "siblings": siblings}
        body = json.dumps(self.listing or document).encode()
        return send(request, 200, body, Content_Type="application/json")

    def _resolve(self, request: BaseHTTPRequestHandler, path: str) -> None:
        repo, _, rest = path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        content = self.repos.get(repo, {}).get(name)
        given = request.headers["Authorization"]
        if repo in self.gated and given not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            return send(request, 401, X_Error_Message=message)
        if repo in self.gated and not (given and self.accepted):
            return send(request, 403 if given else 401, X_Error_Code="GatedRepo")
        if content is None or revision != commit_of(repo):
            return send(request, 404, X_Error_Code="EntryNotFound")
        # Large files are on the CDN, small ones on the same host; both as the hub does it.
        status, location = 307, f"/api/resolve-cache/{repo}/{name}"
        if name.endswith(LARGE):
            cdn = f"http://localhost:{self.port}/cdn/{repo}/{name}?Signature=s1gnature"
            status, location = 302, cdn
        linked = {"X_Linked_Size": str(len(content)), "X_Linked_Etag": f'"{_etag(name, content)}"'}
        return send(request, status, X_Repo_Commit=revision, Location=location, **linked)

    def _send(
        self, request: BaseHTTPRequestHandler, name: str, content: bytes, **headers: str
    ) -> None:
        content, first, status, cut = self.tampered.get(name, content), 0, 200, None
        if request.command == "GET":
            self.before_sending(name)
        if wanted := request.headers["Range"]:
            first, status = int(wanted[6:].partition("-")[0]), 206
            if first >= len(content):
                return send(request, 416, Content_Range=f"bytes */{len(content)}")
            headers["Content_Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        if request.command == "GET":
            with self._lock:  # before the client can know that it has everything
                cut = self.cuts[name].pop(0) if self.cuts.get(name) else None
                self.sent[name] += len(content[first:][:cut])
        return send(request, status, content[first:], cut, Accept_Ranges="bytes", **headers)


def commit_of(repo: str) -> str:
    """A revision: 40 hex digits."""
    return hashlib.sha1(repo.encode(), usedforsecurity=False).hexdigest()


def git_blob(content: bytes) -> str:
    """The id that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if name.endswith(LARGE) else git_blob(content)


def _sibling(name: str, content: bytes) -> dict[str, object]:
    sibling = {"rfilename": name, "size": len(content), "blobId": git_blob(content)}
    lfs = {"sha256": _etag(name, content), "size": len(content), "pointerSize": 134}
    return sibling | ({"lfs": lfs} if name.endswith(LARGE) else {})

"""Storage on loopback, in a process of its own: files out, at a given rate, and results in.

``python -m bench.speed.loopback FOLDER`` serves ``GET /NAME`` from the folder and keeps
``PUT /NAME`` in it; the port is the first line it prints. ``?rate=N`` holds a GET to N bytes a
second. Every request is a line of ``requests.jsonl``, with Unix times of begin and end.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

BLOCK_BYTES = 1 << 17
LOG = "requests.jsonl"


class Storage:
    """The server, as a context manager.

    Args:
        folder: What it serves and fills.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process: subprocess.Popen[str]
        self._port = ""

    def __enter__(self) -> Self:
        (self.folder / LOG).unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.speed.loopback", str(self.folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None  # noqa: S101 -- as asked for above
        self._port = self._process.stdout.readline().strip()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.communicate()

    def url(self, name: str, rate: int | None = None) -> str:
        """Return a file's URL.

        Args:
            name: In the folder.
            rate: Bytes a second; None: as fast as it goes.
        """
        return f"http://127.0.0.1:{self._port}/{name}" + (f"?rate={rate}" if rate else "")

    def requests(self) -> list[dict[str, float | str]]:
        """Return what was asked so far: ``method``, ``name``, ``began`` and ``ended``."""
        log = self.folder / LOG
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


class _Handler(BaseHTTPRequestHandler):
    folder: Path
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        began = time.time()
        path, rate = self._target()
        if not path.is_file():
            self.send_error(404)
            return
        size = path.stat().st_size
        first, last = _range(self.headers.get("Range"), size)
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Content-Length", str(last - first))
        self.send_header("Accept-Ranges", "bytes")
        if "Range" in self.headers:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{size}")
        self.end_headers()
        self._send(path, first, last, rate)
        self._log(path.name, began)

    def do_PUT(self) -> None:
        began = time.time()
        path, _ = self._target()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path.write_bytes(body)
        self._log(path.name, began)  # before the answer: whoever got it finds the line
        self.send_response(200)
        digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.send_header("ETag", f'"{digest}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet: `_log` writes what is needed."""

    def _target(self) -> tuple[Path, float | None]:
        parts = urlsplit(self.path)
        rate = parse_qs(parts.query).get("rate")
        return self.folder / Path(parts.path).name, float(rate[0]) if rate else None

    def _send(self, path: Path, first: int, last: int, rate: float | None) -> None:
        """Send a part of a file; each block waits for its time."""
        began = time.monotonic()
        with path.open("rb") as file:
            file.seek(first)
            sent = 0
            while block := file.read(min(BLOCK_BYTES, last - first - sent)):
                self.wfile.write(block)
                sent += len(block)
                if rate:
                    time.sleep(max(0.0, began + sent / rate - time.monotonic()))

    def _log(self, name: str, began: float) -> None:
        line = {"method": self.command, "name": name, "began": began, "ended": time.time()}
        with (self.folder / LOG).open("a") as log:
            log.write(json.dumps(line) + "\n")


def _range(header: str | None, size: int) -> tuple[int, int]:
    """Return the first byte that is asked for and one past the last."""
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", header or "")
    if found is None:
        return 0, size
    return int(found[1]), min(int(found[2]) + 1, size) if found[2] else size


def main() -> None:
    """Serve until terminated."""
    _Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

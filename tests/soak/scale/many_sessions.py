"""A bucket of very many sessions on SeaweedFS, written to its filer: S3's PUTs take twice as long.

Its times are those of the writing, in whole seconds: what is older is written first.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import urllib3

from devstack.s3 import S3Server
from edge_client.batch.plan import CLOCK_STEP
from edge_client.session import Session

USERS = 300
WRITERS = 8
KINDS: dict[str, dict[str, int]] = {
    "closed": {"audio.wav": 1, "transcription.json": 2, "transcription.job.json": 3},
    "done": {"audio.wav": 1, "transcription.json": 2},
    "new": {"audio.wav": 1},
    "stale": {"audio.wav": 1, "transcription.json": 0},
    "described": {"audio.wav": 1, "metadata.json": 0},
    "chunks": {"chunk-001.webm": 1, "chunk-002.webm": 1},
}
"""What a session's objects are, and in which of four steps they are stored."""
MIX = ("closed", "done", "done", "done", "done", "done", "new", "stale", "described", "chunks")
"""Ten sessions, of 20 keys."""
CLOSED = ("closed",)
"""As a batch leaves them: the claim is written behind the transcript, and short."""


def session_of(number: int) -> Session:
    """Return a session; users and names are of every kind that sorts differently."""
    user, nth = number % USERS, number // USERS
    return Session(f"user{user // 3}{('', ' ü', '-x')[user % 3]}", f"2026-{nth:05} 100%+{nth % 7}")


def kind_of(number: int, mix: Sequence[str] = MIX) -> str:
    """Return what kind of session it is; each user has all kinds."""
    return mix[(number // USERS) % len(mix)]


def fill(server: S3Server, bucket: str, sessions: int, mix: Sequence[str] = MIX) -> int:
    """Make that many sessions in an empty bucket of the server's; return the number of keys."""
    keys = 0
    filer = f"http://127.0.0.1:{server._ports['filer']}/buckets/{bucket}"
    with urllib3.PoolManager(maxsize=WRITERS) as http, ThreadPoolExecutor(WRITERS) as threads:

        def write(key: str) -> int:
            return http.request("PUT", f"{filer}/{quote(key)}", body=b"x").status

        for step in range(4):
            if step:
                time.sleep(CLOCK_STEP.total_seconds() + 1)
            paths = [
                f"{session_of(number).prefix}/{name}"
                for number in range(sessions)
                for name, own in KINDS[kind_of(number, mix)].items()
                if own == step
            ]
            assert set(threads.map(write, paths)) <= {201}
            keys += len(paths)
    return keys

"""A bucket of very many sessions on SeaweedFS, made in seconds per ten thousand.

The objects are written as SeaweedFS's own backup (`weed shell`, ``fs.meta.save``) and loaded from
there: some 4,000 a second on two busy cores, where PUTs make 700. The backup has a length (4 bytes,
big-endian) and a ``filer_pb.FullEntry`` for each object; the field numbers are those of
``weed/pb/filer.proto`` in SeaweedFS 4.48.

The shell says that all is loaded while its last calls are under way. It must not leave before they
are answered: the server loses them, or panics over them (both seen).
"""

from __future__ import annotations

import hashlib
import struct
import subprocess
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from devstack.s3 import S3Server, _find_weed
from edge_client.session import Session

USERS = 300
BODY = b"x"
LOADERS = 32
KINDS: dict[str, dict[str, int]] = {
    "claimed": {"audio.wav": 0, "transcription.job.json": 10, "transcription.json": 100},
    "done": {"audio.wav": 0, "transcription.json": 100},
    "new": {"audio.wav": 0},
    "stale": {"audio.wav": 0, "transcription.json": -100},
    "described": {"audio.wav": 0, "metadata.json": -100},
    "chunks": {"chunk-001.webm": 0, "chunk-002.webm": 30},
}
"""What a session's objects are, and when they were stored, in seconds from its recording."""
MIX = ("claimed", "done", "done", "done", "done", "done", "new", "stale", "described", "chunks")
"""Ten sessions, of 20 keys."""


class Filled(NamedTuple):
    """What was made."""

    sessions: int
    keys: int
    took_s: float


def session_of(number: int) -> Session:
    """Return a session; users and names are of every kind that sorts differently."""
    user, nth = number % USERS, number // USERS
    return Session(f"user{user // 3}{('', ' ü', '-x')[user % 3]}", f"2026-{nth:05} 100%+{nth % 7}")


def kind_of(number: int) -> str:
    """Return what kind of session it is; each user has all kinds."""
    return MIX[(number // USERS) % len(MIX)]


def fill(server: S3Server, bucket: str, sessions: int, folder: Path) -> Filled:
    """Make that many sessions in an empty bucket of the server's."""
    started_s = time.monotonic()
    recorded_at = int(time.time()) - 86_400
    backup = folder / f"{bucket}.meta"
    keys: deque[str] = deque(maxlen=2 * LOADERS)
    count = 0
    with backup.open("wb") as file:
        for number in range(sessions):
            for name, after_s in KINDS[kind_of(number)].items():
                keys.append(f"{session_of(number).prefix}/{name}")
                entry = _entry(bucket, keys[-1], recorded_at + after_s)
                file.write(struct.pack(">I", len(entry)) + entry)
                count += 1
    _load(server, bucket, backup, keys)
    backup.unlink()
    return Filled(sessions, count, time.monotonic() - started_s)


def _entry(bucket: str, key: str, at: int) -> bytes:
    folder, _, name = f"/buckets/{bucket}/{key}".rpartition("/")
    attributes = _number(1, len(BODY)) + _number(2, at) + _number(3, 0o660) + _number(6, at)
    attributes += _bytes(14, hashlib.md5(BODY, usedforsecurity=False).digest())
    entry = _bytes(1, name.encode()) + _bytes(4, attributes) + _bytes(9, BODY)
    return _bytes(1, folder.encode()) + _bytes(2, entry)


def _load(server: S3Server, bucket: str, backup: Path, last_keys: Iterable[str]) -> None:
    ports = server._ports
    command = [
        _find_weed(),
        "shell",
        *(f"-{one}=127.0.0.1:{ports[one]}.{ports[one + '.grpc']}" for one in ("master", "filer")),
    ]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=backup.parent,
    ) as shell:
        shell.stdin.write(f"fs.meta.load -v=false -concurrency={LOADERS} {backup}\n")
        shell.stdin.flush()
        assert any("is loaded" in line for line in shell.stdout), "the shell gave up"
        waiter = server.client().get_waiter("object_exists")
        for key in last_keys:
            waiter.wait(Bucket=bucket, Key=key, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
        shell.stdin.write("exit\n")


def _number(field: int, value: int) -> bytes:
    """Return a protobuf field of a varint."""
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    """Return a protobuf field of bytes."""
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])

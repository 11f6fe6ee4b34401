"""A models folder that appears at once, when it is complete, or not at all.

Takes the folder's place; gives a scratch folder to fill, and writes the inventory `profile.json`.
Raises `BuildError` for somebody else's folder and `DiskFull`. Checksums are here as well.
"""

from __future__ import annotations

import errno
import hashlib
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from builder.errors import BuildError, DiskFull

PROFILE_JSON = "profile.json"
FULL = {errno.ENOSPC, errno.EDQUOT}
REMEDY = "free some space, or choose another with --into and --downloads"


@dataclass(frozen=True)
class Digest:
    """A file's SHA-256; or git's id of it, which is all that a hub tells of small files."""

    algorithm: Literal["sha256", "git"]
    value: str

    def of(self, path: Path) -> str:
        """Return the digest of a file, as hexadecimal digits."""
        if self.algorithm == "sha256":
            return sha256_of(path)
        from huggingface_hub.utils.sha import git_hash  # who is to be offline imports it later

        return git_hash(path.read_bytes())

    def fits(self, path: Path) -> bool:
        """Say whether a file is there and has this digest."""
        return path.is_file() and self.of(path) == self.value


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def named_when_full(folder: Path) -> Iterator[None]:
    """Translate "no space left" and "quota exceeded", met anywhere inside.

    Raises:
        DiskFull: Names the folder that was written into.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        raise DiskFull(f"the disk of {folder} is full: {REMEDY}") from exc


def check_ours(into: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        BuildError: It is not empty and has no `profile.json`.
    """
    if into.exists() and not (into / PROFILE_JSON).is_file() and any(into.iterdir()):
        raise BuildError(f"{into} is not empty and holds no {PROFILE_JSON}: choose another folder")


@contextmanager
def fresh_folder(into: Path) -> Iterator[Path]:
    """Give a folder to fill beside its place, and swap it in when that went well.

    Raises:
        DiskFull: There was no room to fill it.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    with (
        named_when_full(into.parent),
        tempfile.TemporaryDirectory(prefix=f".{into.name}-", dir=into.parent) as scratch,
    ):
        fresh = Path(scratch, "fresh")
        fresh.mkdir()
        yield fresh
        if into.exists():
            into.rename(Path(scratch, "old"))
        fresh.rename(into)


def read_document(into: Path) -> dict[str, Any] | None:
    """Read a folder's `profile.json`; None where there is none that can be read."""
    try:
        document: dict[str, Any] = json.loads((into / PROFILE_JSON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return document


def write_document(folder: Path, document: dict[str, Any]) -> None:
    """Write `profile.json`, with the size in bytes and the SHA-256 of every other file."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {
        p.relative_to(folder).as_posix(): {"bytes": p.stat().st_size, "sha256": sha256_of(p)}
        for p in paths
    }
    text = json.dumps(document | {"files": files}, indent=1) + "\n"
    (folder / PROFILE_JSON).write_text(text, encoding="utf-8")


def changed_files(folder: Path, document: dict[str, Any]) -> list[str]:
    """Name the files of `profile.json` that are missing or have other bytes than recorded."""
    entries = document["files"].items()
    return [name for name, e in entries if not Digest("sha256", e["sha256"]).fits(folder / name)]

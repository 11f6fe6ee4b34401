"""A models folder appears at once, when it is complete, or not at all."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.digests import sha256_of
from builder.disk import named_when_full
from builder.errors import FolderError

PROFILE_JSON = "profile.json"


def check_ours(into: Path) -> None:
    """Refuse a folder that holds something else.

    Raises:
        FolderError: It is not empty and has no `profile.json`.
    """
    if into.exists() and not (into / PROFILE_JSON).is_file() and any(into.iterdir()):
        raise FolderError(f"{into} is not empty and holds no {PROFILE_JSON}: choose another folder")


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
    """Write `profile.json`, with an inventory of every other file there is."""
    complete = document | {"files": _inventory(folder)}
    (folder / PROFILE_JSON).write_text(json.dumps(complete, indent=1) + "\n", encoding="utf-8")


def _inventory(folder: Path) -> dict[str, dict[str, Any]]:
    """List every file of the folder with its size in bytes and its SHA-256."""
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

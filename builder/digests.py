"""Checksums of files, in the two forms that hubs and pins give them.

SHA-256 of the bytes; or git's SHA-1 of a blob, which is all that a hub tells of the files that it
does not keep as large ones.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Digest:
    """What a file's bytes must come to."""

    algorithm: Literal["sha256", "git"]
    value: str

    def of(self, path: Path) -> str:
        """Return the digest of a file, as hexadecimal digits."""
        return git_blob_of(path) if self.algorithm == "git" else sha256_of(path)

    def fits(self, path: Path) -> bool:
        """Say whether a file is there and has this digest."""
        return path.is_file() and self.of(path) == self.value


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def git_blob_of(path: Path) -> str:
    """Return the id that git gives a file's content, 40 hex digits."""
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()

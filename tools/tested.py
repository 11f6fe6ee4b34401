"""Tell whether the image's tests passed on these very contents.

``python -m image.tested`` exits with 0 if what goes into the image, and what tests it, has the
hash in ``image/tested.sha256``; otherwise, and whenever it cannot know, with 1. ``--stamp`` writes
the hash: `make test-image` does so after its tests have passed, and the file is committed.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "image/tested.sha256"
ALSO = ("Dockerfile", ".dockerignore", "image", "tests/image")
COPY = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)


def sources(root: Path) -> list[str]:
    """Return the files that the Dockerfile copies, or that build or test the image, sorted."""
    dockerfile = (root / "Dockerfile").read_text(encoding="utf-8")
    copied = [name for names in COPY.findall(dockerfile) for name in names.split()]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    listed = subprocess.run(
        [*command, *copied, *ALSO], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return sorted({name for name in listed if name and name != STAMP and not name.endswith(".md")})


def digest(root: Path) -> str:
    """Return the SHA-256 of the names and contents of all sources."""
    total = hashlib.sha256()
    for name in sources(root):
        total.update(f"{name}\0{hashlib.sha256((root / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Compare the hash, or write it."""
    try:
        if list(arguments) == ["--stamp"]:
            (ROOT / STAMP).write_text(digest(ROOT) + "\n", encoding="utf-8")
            return 0
        is_tested = (ROOT / STAMP).read_text(encoding="utf-8").strip() == digest(ROOT)
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"image: its tests are due: {exc}", file=sys.stderr)
        return 1
    print(f"image: {'was tested as it is' if is_tested else 'has changed, its tests are due'}")
    return 0 if is_tested else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

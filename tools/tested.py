"""Tell whether the tests of the image, or of the page, passed on these very contents.

``python -m tools.tested image`` exits with 0 if what these tests test, and what tests it, has the
hash in ``tests/image/tested.sha256``; otherwise, and whenever it cannot know, with 1. ``--stamp``
writes the hash: `make test-image` does so after its tests have passed, and the file is committed.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUITES = {
    "image": ("Dockerfile", ".dockerignore", "image", "tests/image"),
    "page": ("bucketscribe_render/page", "tests/page"),
}
COPY = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)


def stamp_of(suite: str) -> Path:
    """Return the file that has the hash."""
    return ROOT / "tests" / suite / "tested.sha256"


def sources(suite: str) -> list[str]:
    """Return the files that a suite tests, or that test or build it, sorted."""
    looked_at = [*SUITES[suite]]
    if suite == "image":
        dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
        looked_at += [name for names in COPY.findall(dockerfile) for name in names.split()]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    listed = subprocess.run(
        [*command, *looked_at], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    return sorted({name for name in listed if name and not name.endswith((".md", "tested.sha256"))})


def digest(suite: str) -> str:
    """Return the SHA-256 of the names and contents of all sources."""
    total = hashlib.sha256()
    for name in sources(suite):
        total.update(f"{name}\0{hashlib.sha256((ROOT / name).read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def main(arguments: Sequence[str]) -> int:
    """Compare the hash of the suite named first, or write it."""
    suite, *rest = arguments
    try:
        if rest == ["--stamp"]:
            stamp_of(suite).write_text(digest(suite) + "\n", encoding="utf-8")
            return 0
        is_tested = stamp_of(suite).read_text(encoding="utf-8").strip() == digest(suite)
    except (OSError, subprocess.CalledProcessError) as exc:
        print(f"{suite}: its tests are due: {exc}", file=sys.stderr)
        return 1
    print(f"{suite}: {'was tested as it is' if is_tested else 'has changed, its tests are due'}")
    return 0 if is_tested else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

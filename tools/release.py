"""Checks a release before anything of it is made: ``python -m tools.release v1.2.3``.

Takes the tag; prints the changelog's section of that version, which becomes the release's notes.
The version is in pyproject.toml and nowhere else; the tag and the changelog have to agree with it.
Exits with 1 and one line that names the remedy if they do not.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


class NotReleasable(Exception):
    """Tag, version and changelog do not agree; the message names what to change."""


def version(root: Path = ROOT) -> str:
    """Return the version of this tree."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


def notes(tag: str, root: Path = ROOT) -> str:
    """Return what the changelog says of the version that a tag names.

    Args:
        tag: As in git, such as ``v1.2.3``.
        root: The tree with ``pyproject.toml`` and ``CHANGELOG.md``.

    Raises:
        NotReleasable: The tag is not the version's, or the changelog has nothing of it.
    """
    ours = version(root)
    if tag != f"v{ours}":
        raise NotReleasable(
            f"the tag is {tag!r}, pyproject.toml says {ours}: tag v{ours}, or change the version"
        )
    return _section(ours, (root / "CHANGELOG.md").read_text(encoding="utf-8"))


def _section(number: str, changelog: str) -> str:
    heading = rf"^## \[{re.escape(number)}\] - \d{{4}}-\d\d-\d\d$"
    match = re.search(rf"{heading}\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if match is None or not match[1].strip():
        raise NotReleasable(
            f"CHANGELOG.md has no section '## [{number}] - YYYY-MM-DD': move [Unreleased] there"
        )
    return match[1].strip() + "\n"


def main(arguments: list[str]) -> int:
    """Run the command line; return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m tools.release TAG\n")
        return 2
    try:
        sys.stdout.write(notes(arguments[0]))
    except NotReleasable as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Shell blocks of our Markdown documents, each marked with where it can run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(
    r"(?:^<!-- run: (here|elsewhere)(?:, it needs ([^>]+?))? -->\n)?"
    r"^```(?:sh|bash|shell|console)\n(.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """Where it runs (``here``, ``elsewhere``, "" if unmarked), what it needs there, its text."""

    where: str
    needs: str
    text: str


def blocks(document: Path) -> list[Block]:
    """Return the shell blocks of a document in order."""
    return [Block(*found) for found in _BLOCK.findall(document.read_text(encoding="utf-8"))]

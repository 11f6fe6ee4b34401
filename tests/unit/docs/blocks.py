"""Shell blocks of our Markdown documents, each marked with where it can run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"(?:^<!-- run: (?P<where>here|elsewhere)(?:, it needs (?P<needs>[^>]+?))? -->\n)?"
    r"^```(?:sh|bash|shell|console)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        line: Of its document, from 1.
        text: What is in it.
        where: ``here``, ``elsewhere``, or None if it is not marked.
        needs: What it needs that is not here.
    """

    line: int
    text: str
    where: str | None
    needs: str | None


def blocks(document: Path) -> list[Block]:
    """Return the shell blocks of a document in order."""
    text = document.read_text(encoding="utf-8")
    return [
        Block(text.count("\n", 0, found.start()) + 1, found["text"], found["where"], found["needs"])
        for found in _BLOCK.finditer(text)
    ]

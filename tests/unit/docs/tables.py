"""Reads tables out of our Markdown documents."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def section(document: str, heading: str) -> str:
    """Return what is below a heading, to the next of the same depth."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    match = re.search(rf"^## {re.escape(heading)}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert match, f"{document} has no section {heading!r}"
    return match[1]


def rows(document: str, heading: str) -> list[list[str]]:
    """Return the cells of a section's only table, without its head."""
    lines = [x for x in section(document, heading).splitlines() if x.startswith("|")]
    table = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert table
    assert {len(row) for row in table} == {lines[1].count("|") - 1}, "a row has other cells"
    return table


def codes(document: str, heading: str) -> list[str]:
    """Return the first cells, which are codes."""
    return [row[0].strip("`") for row in rows(document, heading)]

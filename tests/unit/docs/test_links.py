"""What the documents point at exists: pages, shipped files, tests, make targets."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md")]
PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)")
SHIPPED = re.compile(r"\b(?:deploy|requirements|tests)/[\w./-]*\w\.\w+")
TEST = re.compile(r"`(test_\w+)`")
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}
TARGET = re.compile(r"(?:^|`)make ([a-z][a-z-]*)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_points_at_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    missing = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    missing += [name for name in SHIPPED.findall(text) if not (ROOT / name).exists()]
    missing += [name for name in TEST.findall(text) if name not in TESTS]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):(?!=)", makefile, re.MULTILINE))
    missing += [f"make {target}" for target in TARGET.findall(text) if target not in targets]
    assert missing == []

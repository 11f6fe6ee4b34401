"""`docs/security.md` is about every row of the design note, and names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.unit.docs.tables import ROOT, codes

DOCUMENT = "security.md"
# The rows of its tables "Presigned URL Security" and "What an Attacker CANNOT Do".
LAYERS = [
    "Time-limited",
    "Operation-scoped",
    "Path-scoped",
    "Signature-verified",
    "No credentials shared",
    "HTTPS enforced",
]
ATTACKS = [
    "Access other files",
    "Modify audio file",
    "Upload to wrong location",
    "Use after expiry",
    "Extract AWS credentials",
    "Replay attack",
]
TEXT = (ROOT / "docs" / DOCUMENT).read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", TEXT)))


def functions(path: Path) -> set[str]:
    """Return the names of a module's functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_each_row_of_the_design_note_is_there() -> None:
    assert codes(DOCUMENT, "Presigned URLs") == LAYERS
    assert codes(DOCUMENT, "What somebody with a stolen URL can do") == ATTACKS


@pytest.mark.parametrize(("path", "test"), NAMED)
def test_each_test_that_is_named_exists(path: str, test: str) -> None:
    assert (ROOT / path).is_file()
    assert not test or test in functions(ROOT / path)


def test_each_row_is_shown_by_a_test() -> None:
    table = [line for line in TEXT.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(table) > 25
    assert [line for line in table if "`tests/" not in line] == []


def test_no_preset_and_no_unit_takes_loopback_urls() -> None:
    shipped = [*(ROOT / ".runpod").iterdir(), *(ROOT / "deploy").rglob("*"), ROOT / "Dockerfile"]
    for path in shipped:
        if path.is_file():
            assert "ALLOW_LOOPBACK_URLS" not in path.read_text(encoding="utf-8"), path

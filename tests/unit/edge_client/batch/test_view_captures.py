"""The guide shows what the program prints."""

from pathlib import Path

import pytest

import edge_client
from tools.batch_captures import CAPTURES, WIDTH, with_captures

GUIDE = Path(edge_client.__file__).parent.parent / "docs" / "batch.md"


def test_committed_guide_is_current() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert with_captures(guide) == guide, "run: python -m tools.batch_captures docs/batch.md"


def test_guide_has_every_capture() -> None:
    guide = GUIDE.read_text(encoding="utf-8")
    assert [name for name in CAPTURES if f"<!-- capture: {name} -->" not in guide] == []


def test_blocks_are_written_anew_and_the_rest_is_left() -> None:
    guide = "# A\n<!-- capture: summary -->\nold\n<!-- /capture -->\nB\n"
    once = with_captures(guide)
    assert "old" not in once
    assert "Complete: 7 succeeded, 2 failed" in once
    assert once.startswith("# A\n")
    assert once.endswith("\nB\n")
    assert with_captures(once) == once


def test_unknown_capture_is_an_error() -> None:
    with pytest.raises(KeyError, match="nothing"):
        with_captures("<!-- capture: nothing -->\n<!-- /capture -->")


def test_terminal_of_the_guide_does_not_depend_on_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = CAPTURES["live"]()
    for name, value in {"COLUMNS": "40", "LINES": "5", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert CAPTURES["live"]() == before
    assert max(map(len, before.splitlines())) <= WIDTH

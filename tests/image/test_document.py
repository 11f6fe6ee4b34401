"""docs/image.md is filled in between its markers, and tells what is really left out."""

from __future__ import annotations

import re

import pytest

from image.document import DOCUMENT, describe_left_out, fill_in
from image.engine import ImageError
from image.requirements import LeftOut, read_left_out

TEXT = "before\n<!-- generated: size -->\nold\n<!-- end -->\nafter\n<!-- end -->\n"


def test_a_part_replaces_what_is_between_its_markers() -> None:
    filled = fill_in(TEXT, {"size": "new"})
    assert filled == TEXT.replace("old", "new")
    assert fill_in(filled, {"size": "new"}) == filled


def test_a_part_without_markers_is_named() -> None:
    with pytest.raises(ImageError, match="no place for `start`"):
        fill_in(TEXT, {"start": "new"})


def test_the_largest_come_first_with_their_sum() -> None:
    entries = [LeftOut(("a",), "no need"), LeftOut(("b", "c"), "none either")]
    table = describe_left_out(entries, {"a": 1_000_000, "b": 2_000_000, "c": 500_000})
    assert table.splitlines()[2:] == [
        "| 2.5 | b, c | none either |",
        "| 1.0 | a | no need |",
        "| **3.5** | together | |",
    ]


def test_the_document_names_everything_that_is_left_out() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for entry in read_left_out():
        assert f"| {', '.join(entry.names)} | {entry.why} |" in text
    assert re.search(r"<!-- generated: layers -->\n\| size", text)

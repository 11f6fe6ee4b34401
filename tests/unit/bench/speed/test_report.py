"""The page is what the figures give."""

import copy
import json
from typing import Any

import pytest

from bench.corpus import ROOT
from bench.speed.__main__ import PARTS, QUICK
from bench.speed.report import markdown, merge

DOCUMENT = json.loads((ROOT / "docs" / "benchmarks.json").read_text())


@pytest.fixture
def parts() -> dict[str, Any]:
    """What was measured last; a test may change it."""
    found: dict[str, Any] = copy.deepcopy(DOCUMENT["parts"])
    return found


def test_the_committed_page_is_what_the_committed_figures_give(parts: dict[str, Any]) -> None:
    """Of every part but the quick one; each table has as many cells as columns."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page == markdown(DOCUMENT)
    assert {*parts, QUICK} == {*PARTS}
    lines = page.splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|"), line


def test_each_part_names_its_machine_and_none_is_needed(parts: dict[str, Any]) -> None:
    assert markdown({}).startswith("# Benchmarks")
    parts["memory"]["machine"] |= {"gpu": "NVIDIA H100"}
    line = next(x for x in markdown({"parts": parts}).splitlines() if "NVIDIA H100" in x)
    assert line.endswith(" Parts: memory.")


def test_a_part_measured_again_replaces_itself_alone() -> None:
    document = {"parts": {"stages": {"date": "old"}, "memory": {"date": "old", "left": 1}}}
    merged = merge(document, "memory", {"date": "new"})
    assert merged == {"parts": {"stages": {"date": "old"}, "memory": {"date": "new"}}}
    assert document["parts"]["memory"] == {"date": "old", "left": 1}

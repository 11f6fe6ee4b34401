"""The page: what was asked for, what was measured, and what is still open."""

import copy
import json
from typing import Any

import pytest

from bench.corpus import ROOT
from bench.speed.__main__ import PARTS, QUICK
from bench.speed.report import TARGETS, markdown, merge, rows

DOCUMENT = json.loads((ROOT / "docs" / "benchmarks.json").read_text())


@pytest.fixture
def parts() -> dict[str, Any]:
    """What was measured last; a test may change it."""
    found: dict[str, Any] = copy.deepcopy(DOCUMENT["parts"])
    return found


def set_figure(parts: dict[str, Any], path: str, value: float) -> None:
    """Put a figure in its place among the parts."""
    *keys, last = path.split(" / ")
    for key in keys:
        parts = parts[key]
    parts[last] = value if last == "ratio" and "memory" in keys else {"median": value}


def test_the_committed_page_is_what_the_committed_figures_give(parts: dict[str, Any]) -> None:
    """Of every part but the quick one; each table has as many cells as columns."""
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert page == markdown(DOCUMENT)
    assert {*parts, QUICK} == {*PARTS}
    lines = page.splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|"), line


def test_a_figure_at_its_limit_is_met_and_one_above_is_not(parts: dict[str, Any]) -> None:
    for index, (what, limit, path) in enumerate(TARGETS):
        set_figure(parts, path, limit)
        assert rows(parts)[index] == (what, f"{limit:.2f}", f"{limit:.3f}", "yes")
        set_figure(parts, path, limit + 0.001)
        assert rows(parts)[index][-1] == "**no**"


def test_the_page_says_what_was_not_measured_or_not_on_a_gpu(parts: dict[str, Any]) -> None:
    assert {is_met for *_, is_met in rows({})} == {"not measured"}
    assert len(rows({})) == len(TARGETS)
    assert markdown({}).startswith("# Benchmarks")
    for part in parts.values():
        part["machine"]["gpu"] = "A GPU"
    parts["memory"]["machine"]["gpu"] = None
    assert "**Measured on a CPU only so far:** memory.\n" in markdown({"parts": parts})


def test_a_part_measured_again_replaces_itself_alone() -> None:
    document = {"parts": {"stages": {"date": "old"}, "memory": {"date": "old", "left": 1}}}
    merged = merge(document, "memory", {"date": "new"})
    assert merged == {"parts": {"stages": {"date": "old"}, "memory": {"date": "new"}}}
    assert document["parts"]["memory"] == {"date": "old", "left": 1}

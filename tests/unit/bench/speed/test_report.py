"""The page: what was asked for, what was measured, and what is still open."""

import copy
from typing import Any

import pytest

from bench.speed.__main__ import PARTS, QUICK
from bench.speed.report import TARGETS, floor_share, markdown, merge, rows


def figure(median: float, runs: int = 5) -> dict[str, Any]:
    """A figure with a little spread."""
    return {"median": median, "low": median * 0.9, "high": median * 1.1, "runs": runs}


def both(ratio: float) -> dict[str, Any]:
    """Stock took 10 s."""
    return {"stock": figure(10.0), "ours": figure(10 * ratio), "ratio": figure(ratio)}


PARITY = {
    "text_equal": True,
    "sentences_equal": True,
    "words": 900,
    "words_equal": 1.0,
    "largest_shift_s": 0.0,
    "untimed_words": 2,
    "speakers_equal": 1.0,
    "der": 0.0,
    "speakers": 3,
    "stock_speakers": 3,
    "language_equal": True,
}
MEETING = {
    "duration_s": 340.0,
    "stock": {"wall_s": figure(50.0), "steps_s": {"load": figure(0.1), "align": figure(3.0)}},
    "ours": {"wall_s": figure(20.0), "steps_s": {"load": figure(0.2), "deliver": figure(0.01)}},
    "our_stages": {"fetch": figure(0.1)},
    "ratio": figure(0.4),
    "ratio_by_step": {"load": figure(2.0)},
    "parity": PARITY,
    "same_every_time": True,
    "tuned": {
        "seconds": {"wall_s": figure(36.0), "steps_s": {}},
        "ratio": figure(0.551),
        "ratio_by_step": {},
    },
}
ADDED = {
    "pipeline_s": figure(20.0),
    "deliver_s": figure(0.01),
    "added_s": figure(0.5),
    "added_share": figure(0.025),
}
MACHINE = {
    "cores": 2,
    "cpu": "A CPU",
    "ram_gib": 24,
    "gpu": None,
    "python": "3.11.7",
    "versions": {"torch": "2.8.0"},
}
MEASURED: dict[str, dict[str, Any]] = {
    "english": {"recordings": {"meeting": MEETING}},
    "floor": {
        "by_threads_s": {"1": {"PyanNet": 24.0}, "2": {"PyanNet": 17.0}},
        "forwards_s": {"PyanNet": 17.0},
        "floor_s": 17.0,
        "packed_floor_s": 12.0,
    },
    "stages": {
        "alignment": {
            "demo": {
                "audio_s": 340.0,
                "segments": 12,
                **both(0.3),
                "without_forward": {
                    "stock": figure(4.0),
                    "ours": figure(0.2),
                    "ratio": figure(0.05),
                },
                "parity": PARITY,
            },
            "wav2vec2-base": {"audio_s": 60.0, "segments": 2, **both(0.5), "parity": PARITY},
        },
        "diarization": {"audio_s": 20.0, **both(0.3), "turns_equal": True, "der": 0.0},
    },
    "memory": {
        "stock": {"before": 1 << 30, "added": 2 << 30, "cuda": 0, "wall_s": 300.0},
        "ours": {"before": 1 << 30, "added": 1 << 29, "cuda": 0, "wall_s": 120.0},
        "ratio": 0.25,
        "wall_ratio": 0.4,
    },
    "cold_start": {
        "worker": {"first result": figure(15.0)},
        "one after the other": {"import torch": figure(3.0)},
        "first job": figure(3.0),
        "earlier first result": figure(25.0),
        "ratio": figure(0.6),
    },
    "throttled": {
        "20 MB/s": {
            "download_s": 0.5,
            "slow_s": figure(20.5),
            "unlimited_s": figure(20.0),
            "ratio": figure(1.025),
        }
    },
    "overhead": {"telephone": {**ADDED, "added_s": figure(0.3)}, "meeting": ADDED},
}
PARTS_FOUND = {
    name: part | {"machine": MACHINE, "date": "2026-11-22", "bench_s": 9}
    for name, part in MEASURED.items()
}


def met(parts: dict[str, Any]) -> dict[str, str]:
    """Rows by their beginning: whether each is met."""
    return {what: is_met for what, _, _, is_met in rows(parts)}


def test_a_figure_at_its_limit_is_met_and_one_above_is_not() -> None:
    """0.40 of 0.40, 0.551 of 0.55."""
    answers = list(met(PARTS_FOUND).values())
    assert answers[:2] == ["yes", "**no**"]
    assert answers[2:-1] == ["yes"] * 7


def test_every_row_of_the_issue_is_there_before_anything_was_measured() -> None:
    """As not measured, not as met."""
    assert len(TARGETS) + 2 == len(rows({})) == 10
    assert {is_met for *_, is_met in rows({})} == {"not measured"}


def test_efficiency_is_of_the_same_job_and_more_is_better() -> None:
    """17 s of forwards in 20 s."""
    assert floor_share(PARTS_FOUND) == 0.85
    slower = copy.deepcopy(PARTS_FOUND)
    slower["english"]["recordings"]["meeting"]["ours"]["wall_s"]["median"] = 20.1
    efficiency = next(what for what in met(slower) if what.startswith("efficiency"))
    assert (met(PARTS_FOUND)[efficiency], met(slower)[efficiency]) == ("yes", "**no**")


@pytest.mark.parametrize(
    ("seconds", "share", "answer"), [(0.3, 0.1, "yes"), (2.0, 0.02, "yes"), (0.31, 0.021, "**no**")]
)
def test_either_limit_of_the_last_row_will_do(seconds: float, share: float, answer: str) -> None:
    """For each recording by itself."""
    parts = copy.deepcopy(PARTS_FOUND)
    parts["overhead"]["meeting"] |= {"added_s": figure(seconds), "added_share": figure(share)}
    assert rows(parts)[-1][-1] == answer


def test_the_page_shows_every_part() -> None:
    """With spread where there was more than one run, and with what has no GPU's figures."""
    page = markdown({"parts": PARTS_FOUND})
    for title in ("Whole job", "Parity", "Floor", "Stages alone", "Memory", "Cold start"):
        assert f"\n## {title}\n" in page
    assert "0.400 (0.360–0.440)" in page
    assert "900 (2 untimed)" in page
    assert "Forwards in stock's alignment, which ours runs too: demo 60% of its time." in page
    assert "CTranslate2 1, torch 2" in page
    assert "**Measured on a CPU only so far:** english, floor" in page


def test_tables_have_as_many_cells_as_columns() -> None:
    """In every row of every table."""
    lines = markdown({"parts": PARTS_FOUND}).splitlines()
    for before, line in zip(lines, lines[1:], strict=False):
        if before.startswith("|") and line.startswith("|"):
            assert before.count("|") == line.count("|"), line


def test_a_part_measured_again_replaces_itself_alone() -> None:
    """The rest keeps its date."""
    document = {"parts": {"floor": {"date": "old"}, "memory": {"date": "old", "left": 1}}}
    merged = merge(document, "memory", {"date": "new"})
    assert merged == {"parts": {"floor": {"date": "old"}, "memory": {"date": "new"}}}
    assert document["parts"]["memory"] == {"date": "old", "left": 1}


def test_every_part_that_is_measured_has_its_place_on_the_page() -> None:
    """But the quick one, which is never written, and german, which joins english's tables."""
    assert {*PARTS_FOUND, "german", QUICK} == {*PARTS}

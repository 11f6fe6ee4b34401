"""Ours next to stock: what counts as worse, and what the table says."""

import json
from dataclasses import replace

import pytest

from bench.accuracy import TOLERANCES, Comparison, complaints, diarizer_markdown, markdown, to_json
from bench.scoring import Score

STOCK = Score(
    wer=0.10,
    cpwer=0.15,
    der=0.02,
    der_no_collar=0.05,
    speakers_found=3,
    speakers_true=2,
    first_words=9,
    first_word_median_s=0.02,
    first_word_p90_s=0.05,
)
EQUAL = Comparison("talk", 30.2, STOCK, STOCK, 0.0123)


@pytest.mark.parametrize("figure", TOLERANCES)
def test_worse_than_the_tolerance_is_a_complaint(figure: str) -> None:
    """Just inside it is none."""
    limit = getattr(STOCK, figure) + TOLERANCES[figure]
    outside = replace(EQUAL, ours=replace(STOCK, **{figure: limit + 1e-6}))
    inside = replace(EQUAL, ours=replace(STOCK, **{figure: limit - 1e-6}))
    assert len(complaints(outside)) == 1
    assert figure in complaints(outside)[0]
    assert complaints(inside) == []


def test_better_and_equal_are_no_complaints() -> None:
    """Two speakers for two, where stock finds three."""
    better = replace(STOCK, wer=0.0, speakers_found=2, first_words=10)
    assert complaints(EQUAL) == []
    assert complaints(replace(EQUAL, ours=better)) == []


@pytest.mark.parametrize("found", [0, 4])
def test_speakers_further_from_the_truth_are_a_complaint(found: int) -> None:
    """Too few and too many alike."""
    (complaint,) = complaints(replace(EQUAL, ours=replace(STOCK, speakers_found=found)))
    assert f"{found} speakers for 2, stock 3" in complaint


def test_losing_first_words_is_a_complaint() -> None:
    """Else good times of few words would pass for good times."""
    lost = replace(STOCK, first_words=0, first_word_median_s=None, first_word_p90_s=None)
    assert len(complaints(replace(EQUAL, ours=lost))) == 3


def test_times_that_stock_lacks_are_not_asked_of_ours() -> None:
    """Nothing to compare with."""
    untimed = replace(STOCK, first_word_median_s=None, first_word_p90_s=None)
    assert complaints(replace(EQUAL, stock=untimed)) == []


def test_table_has_two_lines_a_recording() -> None:
    """Rates in percent, times in milliseconds, a dash for what was not measured."""
    untimed = replace(STOCK, first_word_median_s=None)
    assert markdown([replace(EQUAL, stock=untimed)]).splitlines()[2:] == [
        "| talk, 30 s | ours | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: 20 / 50 |",
        "| | stock | 10.0% | 15.0% | 2.0% | 5.0% | 3 of 2 | 9: – / 50 |",
    ]
    assert diarizer_markdown([EQUAL]).splitlines()[-1] == "| talk | 1.2% |"


def test_json_has_every_figure_rounded() -> None:
    """For programs: parts of one, seconds."""
    comparison = replace(EQUAL, ours=replace(STOCK, wer=1 / 3))
    document = json.loads(to_json([comparison], {"align": "tiny"}))
    (recording,) = document["recordings"]
    assert recording["ours"]["wer"] == 0.3333
    assert recording["stock"]["first_word_p90_s"] == 0.05
    assert document["tolerances"] == TOLERANCES
    assert document["models"] == {"align": "tiny"}

"""Scores against values worked out by hand and against brute force."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.corpus import Reference, SpokenWord, Turn, Utterance, read_transcript
from bench.pooled import RATES, interval, markdown
from bench.scoring import (
    Counts,
    best_naming,
    cp_edits,
    diarization_error,
    edits,
    first_word_errors,
    normalise,
    score,
    speakers_of_matches,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5)
SPEAKERS = st.lists(WORDS, max_size=4)


@given(SPEAKERS, SPEAKERS)
def test_cp_edits_are_the_best_of_all_permutations(
    reference: list[list[str]], hypothesis: list[list[str]]
) -> None:
    size = max(len(reference), len(hypothesis))
    rows = reference + [[]] * (size - len(reference))
    columns = hypothesis + [[]] * (size - len(hypothesis))
    best = min(
        sum(edits(row, column) for row, column in zip(rows, order, strict=True))
        for order in permutations(columns)
    )
    assert cp_edits(reference, hypothesis) == best


def test_edits_are_substitutions_deletions_and_insertions() -> None:
    assert edits(["a", "b", "c", "d"], ["b", "x", "d", "e"]) == 3
    assert (edits([], ["a", "b"]), edits(["a"], []), edits([], [])) == (2, 1, 0)


ONE, OTHER = Turn(0, 10, "A"), Turn(10, 20, "B")


@pytest.mark.parametrize(
    ("true", "found", "duration_s", "collar_s", "error"),
    [
        ([ONE, OTHER], [Turn(0, 12, "X"), Turn(12, 20, "Y")], 20, 0.0, 2 / 20),
        ([ONE, OTHER], [Turn(0, 12, "X"), Turn(12, 20, "Y")], 20, 0.25, 1.875 / 19.5),
        ([ONE, Turn(8, 10, "B")], [Turn(0, 13, "X")], 15, 0.0, (2 + 3) / 12),
        ([Turn(0, 1, "A"), Turn(0, 1, "B")], [Turn(0, 1, "A")], 1, 0.0, 1 / 2),
    ],
    ids=["late change", "collar of 0.125 s a side", "missed overlap, silence", "same time"],
)
def test_diarization_error_by_hand(
    true: list[Turn], found: list[Turn], duration_s: float, collar_s: float, error: float
) -> None:
    """Overlap counts; two turns of the same time are two tracks."""
    assert diarization_error(true, found, duration_s, collar_s) == pytest.approx(error)


def test_words_are_compared_as_whispers_normaliser_writes_them() -> None:
    """Numbers, contractions, spelling, hesitations: as published rates have it."""
    written = "Um, it's Nine hundred and fifty dollars. You can't. The colour's grey. - !"
    assert " ".join(normalise(written)) == "it is $950 you can not the color is gray"


def test_first_words_are_found_through_insertions() -> None:
    """Neither an invented word nor one that becomes two shifts the match; 'unheard' is left out."""
    utterances = [
        Utterance(1.0, 2.0, "A", "It's forty dollars."),
        Utterance(3.0, 4.0, "B", "Thanks."),
        Utterance(5.0, 6.0, "A", "Unheard entirely."),
        Utterance(7.0, 8.0, "A", "Um."),
        Utterance(9.0, 10.0, "A", "Bye."),
    ]
    spoken = [("Oh", 0.5), ("It", 1.1), ("is", 1.3), ("forty", 1.4), ("dollars.", 1.6)]
    spoken += [("Thanks", 2.95), ("bye", 9.0)]
    words = [SpokenWord(text, start_s, start_s + 0.1, "", 0) for text, start_s in spoken]
    assert first_word_errors(utterances, words) == pytest.approx([0.1, 0.05, 0.0])
    words[-1] = SpokenWord("bye", None, None, "", 0)  # an aligner may leave words untimed
    assert first_word_errors(utterances, words) == pytest.approx([0.1, 0.05])


def test_score_of_a_small_recording_by_hand() -> None:
    """Six words: ``dogs`` is heard as ``hogs``, ``Two`` is given to the first speaker.

    Its start is 0.5 s early. By the diarizer's own turns the words' speakers do not matter.
    """
    texts = [("One", 0), ("cat", 0), ("sat.", 0), ("Two", 0), ("hogs", 1), ("ran.", 1)]
    words = [
        {"word": text, "start": float(i), "end": i + 1.0, "speaker": f"SPEAKER_0{speaker}"}
        for i, (text, speaker) in enumerate(texts)
    ]
    segments = [
        {"text": " One cat sat.", "words": words[:3]},
        {"text": " Two hogs ran.", "words": words[3:]},
    ]
    said = Utterance(0, 3, "A", "One cat sat."), Utterance(3.5, 6, "B", "Two dogs ran.")
    turns = Turn(0, 3, "A"), Turn(3, 6, "B")
    reference = Reference("small", Path("small.flac"), said, turns)
    hypothesis = read_transcript({"segments": segments})
    found = score(reference, hypothesis, 6.0)
    assert found.wer == pytest.approx(1 / 6)
    assert found.cpwer == pytest.approx(3 / 6)
    assert found.der_no_collar == pytest.approx(1 / 6)
    assert found.der == pytest.approx(0.875 / 5.5)
    assert (found.speakers_found, found.speakers_true, found.first_words) == (2, 2, 2)
    assert found.first_word_median_s == pytest.approx(0.25)
    assert found.first_word_p90_s == pytest.approx(0.45)
    assert score(reference, hypothesis, 6.0, turns).der_no_collar == 0.0
    assert found.counts == Counts(6, 1, 3, matched=5, right=4, segments=2, mixed=1)


def test_word_that_is_recognised_elsewhere_is_not_matched() -> None:
    spoken = [SpokenWord(text, at, at + 0.5, "A") for at, text in enumerate(("one", "two"))]
    heard = [replace(spoken[0], start_s=1.6), replace(spoken[1], speaker="S")]
    assert speakers_of_matches(spoken, heard) == [("A", "S")]
    assert best_naming([("A", "x"), ("A", "x"), ("B", "x"), ("B", None)]) == 3


def test_pooled_rates_are_of_all_words_and_have_an_interval_from_three_recordings_on() -> None:
    bad, good = Counts(100, 50, 60, 50, 40, 5, 0), Counts(300, 30, 40, 250, 250, 20, 1)
    assert interval([bad, good], RATES["WER"]) is None
    low, high = interval([bad, good, good], RATES["WER"]) or (0.0, 0.0)
    assert 0.1 <= low < 110 / 700 < high <= 0.5
    table = markdown({"ami": {"ours": [bad, good], "stock": [bad]}}).splitlines()
    assert table[2:] == [
        "| ami: 2 recordings, 400 words | ours | 20.0% | 25.0% | 5.0% | 96.7% of 300 | 25 (1) |",
        "| | stock | 50.0% | 60.0% | 10.0% | 80.0% of 50 | 5 (0) |",
    ]

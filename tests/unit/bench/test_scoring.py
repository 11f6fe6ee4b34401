"""Scores against values worked out by hand and against brute force."""

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.corpus import Reference, SpokenWord, Turn, Utterance, read_transcript
from bench.scoring import (
    COLLAR_S,
    best_naming,
    count,
    count_sentences,
    cp_edits,
    diarization_error,
    edits,
    normalise,
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
    assert diarization_error(true, found, duration_s, collar_s)[0] == pytest.approx(error)


def test_words_are_compared_as_whispers_normaliser_writes_them() -> None:
    """Numbers, contractions, spelling, hesitations: as published rates have it."""
    written = "Um, it's Nine hundred and fifty dollars. You can't. The colour's grey. - !"
    assert " ".join(normalise(written)) == "it is $950 you can not the color is gray"


def test_counts_of_a_small_recording_by_hand() -> None:
    """Six words: ``dogs`` is heard as ``hogs``, ``Two`` is given to the first speaker.

    Its start is 0.5 s early.
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
    found = count(reference, hypothesis, 6.0)
    assert (found.words, found.edits, found.cp_edits) == (6, 1, 3)
    assert (found.matched, found.right, found.segments, found.mixed) == (5, 4, 2, 1)
    assert (found.speakers_true, found.speakers_found, found.sentences) == (2, 2, 2)
    assert COLLAR_S == 0.25
    assert (found.speech_s, found.wrong_s) == pytest.approx((5.5, 0.875))


def test_sentences_are_counted_by_their_ends_and_are_one_an_utterance_at_least() -> None:
    said = ["Really?! At 3.30. Well...", "and then", "Yes. No"]
    assert count_sentences([Utterance(0, 1, "A", text) for text in said]) == 5


def test_word_that_is_recognised_elsewhere_is_not_matched() -> None:
    spoken = [SpokenWord(text, at, at + 0.5, "A") for at, text in enumerate(("one", "two"))]
    heard = [replace(spoken[0], start_s=1.6), replace(spoken[1], speaker="S")]
    assert speakers_of_matches(spoken, heard) == [("A", "S")]
    assert best_naming([("A", "x"), ("A", "x"), ("B", "x"), ("B", None)]) == 3

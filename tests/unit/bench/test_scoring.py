"""Scores against values worked out by hand and against brute force."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.corpus import Hypothesis, Reference, SpokenWord, Turn, Utterance, read_transcript
from bench.scoring import (
    cp_edits,
    diarization_error,
    edits,
    first_word_errors,
    normalise,
    score,
)

WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=5)
SPEAKERS = st.lists(WORDS, max_size=4)


def levenshtein(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """The textbook recurrence, without a library."""
    row = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        previous, row = row, [i]
        for j, other in enumerate(hypothesis, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (word != other)))
    return row[-1]


def best_permutation(reference: list[list[str]], hypothesis: list[list[str]]) -> int:
    """Try every assignment of speakers."""
    size = max(len(reference), len(hypothesis))
    rows = reference + [[]] * (size - len(reference))
    columns = hypothesis + [[]] * (size - len(hypothesis))
    return min(
        sum(levenshtein(row, column) for row, column in zip(rows, order, strict=True))
        for order in permutations(columns)
    )


@given(WORDS, WORDS)
def test_edits_are_levenshteins(reference: list[str], hypothesis: list[str]) -> None:
    """Empty sides included."""
    assert edits(reference, hypothesis) == levenshtein(reference, hypothesis)


@given(SPEAKERS, SPEAKERS)
def test_cp_edits_are_the_best_of_all_permutations(
    reference: list[list[str]], hypothesis: list[list[str]]
) -> None:
    """Also when the numbers of speakers differ."""
    assert cp_edits(reference, hypothesis) == best_permutation(reference, hypothesis)


def test_a_swapped_sentence_costs_cpwer_twice() -> None:
    """Words in the wrong speaker's mouth are deleted there and inserted here."""
    assert cp_edits([["x", "y"], ["p", "q"]], [["p"], ["x", "y", "q"]]) == 2


def test_der_of_a_late_change_of_speaker() -> None:
    """Two of twenty seconds go to the wrong one; the collar takes 0.125 s a side of each edge."""
    true = [Turn(0, 10, "A"), Turn(10, 20, "B")]
    found = [Turn(0, 12, "X"), Turn(12, 20, "Y")]
    assert diarization_error(true, found, 20, 0.0) == pytest.approx(2 / 20)
    assert diarization_error(true, found, 20, 0.25) == pytest.approx(1.875 / 19.5)


def test_der_counts_missed_overlap_and_speech_in_silence() -> None:
    """12 s of speech; B's 2 s are missed, and 3 s after the end are invented."""
    true = [Turn(0, 10, "A"), Turn(8, 10, "B")]
    found = [Turn(0, 13, "X")]
    assert diarization_error(true, found, 15, 0.0) == pytest.approx((2 + 3) / 12)


def test_der_keeps_two_turns_of_the_same_time() -> None:
    """Two people who say the same thing at the same time are two tracks."""
    turns = [Turn(0, 1, "A"), Turn(0, 1, "B")]
    assert diarization_error(turns, turns[:1], 1, 0.0) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Um, it's Nine hundred and fifty dollars.", "it is $950"),
        ("You can't. Uh, twenty-five percent!", "you can not 25%"),
        ("The colour's grey", "the color is gray"),
        ("- !", ""),
    ],
)
def test_words_are_compared_as_whispers_normaliser_writes_them(
    written: str, normalised: str
) -> None:
    """Numbers, contractions, spelling, hesitations: as published rates have it."""
    assert normalise(written) == normalised.split()


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


def test_a_first_word_without_a_time_is_not_counted() -> None:
    """An aligner may leave words untimed; they have no error to speak of."""
    utterance = Utterance(1.0, 2.0, "A", "Hello")
    assert first_word_errors([utterance], [SpokenWord("Hello", None, None, "", 0)]) == []


def test_score_of_a_small_recording_by_hand() -> None:
    """Two speakers, six words, one substituted, one given to the wrong speaker."""
    reference = Reference(
        name="small",
        audio=Path("small.flac"),
        utterances=(Utterance(0, 3, "A", "One cat sat."), Utterance(3, 6, "B", "Two dogs ran.")),
        turns=(Turn(0, 3, "A"), Turn(3, 6, "B")),
    )
    found = score(reference, _small_hypothesis(), 6.0)
    assert found.wer == pytest.approx(1 / 6)
    assert found.cpwer == pytest.approx(3 / 6)
    assert found.der_no_collar == pytest.approx(1 / 6)
    assert found.der == pytest.approx(0.875 / 5.5)
    assert (found.speakers_found, found.speakers_true) == (2, 2)
    assert found.first_words == 2
    assert found.first_word_median_s == pytest.approx(0.0)


def test_first_word_errors_are_summed_up_as_median_and_p90() -> None:
    """Errors of 0 and 0.5 s: half way, and nine tenths of the way."""
    texts = (("One cat sat.", 0.0), ("Two dogs ran.", 3.5))
    reference = Reference(
        name="late",
        audio=Path("late.flac"),
        utterances=tuple(Utterance(start, start + 1, "A", text) for text, start in texts),
        turns=(Turn(0, 6, "A"),),
    )
    found = score(reference, _small_hypothesis(), 6.0)
    assert found.first_word_median_s == pytest.approx(0.25)
    assert found.first_word_p90_s == pytest.approx(0.45)


def test_score_takes_the_diarizers_own_turns_when_given() -> None:
    """Then the words' speakers no longer matter for DER."""
    turns = (Turn(0, 3, "A"), Turn(3, 6, "B"))
    reference = Reference("small", Path("x"), (Utterance(0, 3, "A", "One"),), turns)
    assert score(reference, _small_hypothesis(), 6.0, turns).der_no_collar == 0.0
    assert score(reference, _small_hypothesis(), 6.0).der_no_collar > 0.1


def _small_hypothesis() -> Hypothesis:
    """``Two`` is given to the first speaker; ``dogs`` is heard as ``hogs``."""
    texts = [("One", 0), ("cat", 0), ("sat.", 0), ("Two", 0), ("hogs", 1), ("ran.", 1)]
    words = [
        {"word": text, "start": float(i), "end": i + 1.0, "speaker": f"SPEAKER_0{speaker}"}
        for i, (text, speaker) in enumerate(texts)
    ]
    return read_transcript(
        {
            "segments": [
                {"text": " One cat sat.", "words": words[:3]},
                {"text": " Two hogs ran.", "words": words[3:]},
            ]
        }
    )

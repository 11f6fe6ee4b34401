"""Whether two transcripts are the same, and how far apart they are."""

from dataclasses import replace

import pytest

from bench.corpus import Hypothesis, SpokenWord
from bench.scoring import compare

WORDS = (
    SpokenWord("Good", 0.5, 0.7, "SPEAKER_00", 0),
    SpokenWord("morning.", 0.7, 1.1, "SPEAKER_00", 0),
    SpokenWord("£5", None, None, "SPEAKER_01", 1),
    SpokenWord("then.", 2.4, 2.8, "SPEAKER_01", 1),
)
STOCK = Hypothesis("Good morning. £5 then.", WORDS)


def test_equal_transcripts_are_equal_in_everything() -> None:
    """Words that stock has no time for are counted apart."""
    assert list(compare(STOCK, STOCK, 4.0).values()) == [True, True, 4, 1.0, 0.0, 1, 1.0, 0.0]


@pytest.mark.parametrize(
    ("words", "words_equal", "speakers_equal", "largest_shift_s"),
    [
        ((*WORDS[:-1], replace(WORDS[-1], end_s=2.801)), 1.0, 1.0, 0.001),
        ((*WORDS[:-1], replace(WORDS[-1], end_s=2.8011)), 0.666667, 1.0, 0.0011),
        ((replace(WORDS[0], start_s=-1.5), *WORDS[1:]), 0.666667, 1.0, 2.0),
        (WORDS[1:], 0.666667, 0.75, 0.0),
        ((replace(WORDS[0], start_s=None), *WORDS[1:]), 0.666667, 1.0, float("inf")),
        ((replace(WORDS[0], speaker="SPEAKER_01"), *WORDS[1:]), 1.0, 0.75, 0.0),
    ],
    ids=["same time", "another time", "too early", "lost", "without a time", "another's"],
)
def test_one_word_that_differs(
    words: tuple[SpokenWord, ...], words_equal: float, speakers_equal: float, largest_shift_s: float
) -> None:
    """The words after it still find their partners; the larger of start and end counts."""
    parity = compare(replace(STOCK, words=words), STOCK, 4.0)
    assert (parity["words_equal"], parity["speakers_equal"]) == (words_equal, speakers_equal)
    assert parity["largest_shift_s"] == largest_shift_s


def test_other_text_is_not_equal_and_der_is_of_the_turns_without_a_collar() -> None:
    """A tenth of a second missed in a second of speech."""
    words = (replace(WORDS[0], start_s=0.6), WORDS[1], *(replace(w, segment=2) for w in WORDS[2:]))
    found = compare(Hypothesis("Good.", words), STOCK, 4.0)
    assert (found["text_equal"], found["sentences_equal"]) == (False, False)
    assert found["der"] == pytest.approx(0.1, abs=1e-6)

"""Whether two transcripts are the same, and how far apart they are."""

from dataclasses import asdict, replace

import pytest

from bench.corpus import Turn
from bench.speed.parity import Heard, Word, compare

WORDS = (
    Word("Good", 0.5, 0.7, "SPEAKER_00"),
    Word("morning.", 0.7, 1.1, "SPEAKER_00"),
    Word("£5", None, None, "SPEAKER_01"),
    Word("then.", 2.4, 2.8, "SPEAKER_01"),
)
STOCK = Heard(
    segments=(" Good morning. £5 then.",),
    sentences=("Good morning.", "£5 then."),
    words=WORDS,
    turns=(Turn(0.4, 1.2, "SPEAKER_00"), Turn(2.0, 3.0, "SPEAKER_01")),
    language="en",
)


def shifted(seconds: float) -> Heard:
    """Move the last word's end."""
    word = replace(WORDS[-1], end_s=2.8 + seconds)
    return replace(STOCK, words=(*WORDS[:-1], word))


def test_equal_transcripts_are_equal_in_everything() -> None:
    """Words that stock has no time for are counted apart."""
    parity = compare(STOCK, STOCK, 4.0)
    assert parity.text_equal
    assert parity.sentences_equal
    assert parity.language_equal
    assert (parity.words, parity.untimed_words, parity.words_equal) == (4, 1, 1.0)
    assert (parity.largest_shift_s, parity.speakers_equal, parity.der) == (0.0, 1.0, 0.0)
    assert (parity.speakers, parity.stock_speakers) == (2, 2)


@pytest.mark.parametrize(("shift_s", "equal"), [(0.001, 1.0), (0.0011, 0.666667)])
def test_a_millisecond_is_the_same_time(shift_s: float, equal: float) -> None:
    """What is more is another one."""
    parity = compare(shifted(shift_s), STOCK, 4.0)
    assert parity.words_equal == equal
    assert parity.largest_shift_s == pytest.approx(shift_s, abs=1e-9)


def test_the_larger_of_start_and_end_counts() -> None:
    """Two seconds too early at the start."""
    early = replace(WORDS[0], start_s=-1.5)
    assert compare(replace(STOCK, words=(early, *WORDS[1:])), STOCK, 4.0).largest_shift_s == 2.0


def test_a_word_that_ours_lost_is_not_equal() -> None:
    """The words after it still find their partners."""
    parity = compare(replace(STOCK, words=WORDS[1:]), STOCK, 4.0)
    assert parity.words_equal == 0.666667
    assert parity.largest_shift_s == 0.0
    assert parity.speakers_equal == 0.75


def test_a_word_that_ours_left_without_a_time_is_infinitely_far() -> None:
    """Stock has one."""
    untimed = replace(WORDS[0], start_s=None)
    parity = compare(replace(STOCK, words=(untimed, *WORDS[1:])), STOCK, 4.0)
    assert parity.largest_shift_s == float("inf")


def test_other_text_is_not_equal() -> None:
    """In a chunk of Whisper's, and in a sentence."""
    assert not compare(replace(STOCK, segments=(" Good.",)), STOCK, 4.0).text_equal
    assert not compare(replace(STOCK, sentences=("Good.",)), STOCK, 4.0).sentences_equal
    assert not compare(replace(STOCK, language="de"), STOCK, 4.0).language_equal


def test_der_is_of_the_turns_without_a_collar() -> None:
    """A tenth of a second missed in 1.8 s of speech."""
    turns = (Turn(0.5, 1.2, "A"), Turn(2.0, 3.0, "B"))
    assert compare(replace(STOCK, turns=turns), STOCK, 4.0).der == pytest.approx(
        0.1 / 1.8, abs=1e-6
    )


def test_a_transcript_survives_its_way_through_json() -> None:
    """One process writes it, another one compares it."""
    assert Heard.read(asdict(STOCK)) == STOCK

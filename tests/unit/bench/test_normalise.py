"""The text normalisation: every rule it states, and what holds for any text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.scoring import Token, normalise, normalise_words, spell


@pytest.mark.parametrize(
    ("written", "normalised"),
    [
        ("Don\N{RIGHT SINGLE QUOTATION MARK}t stop\N{EM DASH}now!", "don't stop now"),
        ("'Quoted' twenty-five", "quoted twenty five"),
        ("It costs $1,250.50.", "it costs one thousand two hundred fifty dollars fifty cents"),
        ("£1 and €2", "one pound and two euros"),
        ("nine hundred and fifty", "nine hundred fifty"),
        ("two thousand and one nights", "two thousand one nights"),
        ("a hundred and counting", "a hundred and counting"),
        ("at 7:30, 9:05 and 10:00", "at seven thirty nine oh five and ten"),
        ("the 1st, 20th and 42nd", "the first twentieth and forty second"),
        ("3.25 or 5%", "three point two five or five percent"),
        ("Um, OK. Uh.", "okay"),
        ("ﬁve １２", "five twelve"),
        ("... - !", ""),
    ],
)
def test_each_stated_rule_holds(written: str, normalised: str) -> None:
    """What the module says of itself is what it does."""
    assert normalise(written) == normalised.split()


def test_figures_and_words_of_one_number_are_equal() -> None:
    """Whisper writes $950 where the script has it in words."""
    assert normalise("$950") == normalise("Nine hundred and fifty dollars.")


def test_tokens_remember_the_written_word() -> None:
    """One written word may become three tokens or none."""
    tokens = normalise_words(["Uh,", "$42", "please."])
    assert tokens == [
        Token("forty", 1),
        Token("two", 1),
        Token("dollars", 1),
        Token("please", 2),
    ]


PIECES = [*"aßİ'’-.,:$€%09½ﬁ² ", "st", "th", " and ", "hundred", "one", " um ", "ok"]


@given(st.lists(st.sampled_from(PIECES), max_size=20).map("".join))
def test_normalising_twice_changes_nothing(text: str) -> None:
    """Normalised text is a fixed point."""
    once = normalise(text)
    assert normalise(" ".join(once)) == once


@given(st.integers(0, 10**12 - 1))
def test_a_spelled_number_reads_as_itself(number: int) -> None:
    """An independent reader of number words gets the number back."""
    assert _read(spell(number)) == number


def _read(words: list[str]) -> int:
    """Read number words, by adding up."""
    digits = "zero one two three four five six seven eight nine"
    ones = {word: index for index, word in enumerate(digits.split())}
    teens = "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
    ones |= {word: 10 + index for index, word in enumerate(teens.split())}
    tens = "twenty thirty forty fifty sixty seventy eighty ninety"
    ones |= {word: 20 + 10 * index for index, word in enumerate(tens.split())}
    scales = {"thousand": 10**3, "million": 10**6, "billion": 10**9}
    total = group = 0
    for word in words:
        if word in scales:
            total, group = total + group * scales[word], 0
        else:
            group = group * 100 if word == "hundred" else group + ones[word]
    return total + group

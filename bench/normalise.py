"""The text normalisation under which words are compared, reference and hypothesis alike.

The rules, in order: Unicode NFKC and lower case; straight apostrophes; figures are spelled out
("$950" → "nine hundred fifty dollars", "7:30" → "seven thirty", "3rd" → "third", "5%" → "five
percent"); every other character than letters and apostrophes inside a word parts words, so
punctuation goes and "twenty-five" is two words; "and" inside a number goes; the sounds of
hesitation in `HESITATIONS` go; "ok" is "okay". Nothing else: a contraction is not its long form,
and British spelling is not American.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

HESITATIONS = frozenset({"uh", "um", "hmm", "mm", "mhm"})
SPELLINGS = {"ok": "okay"}
CURRENCIES = {"$": ("dollar", "cent"), "£": ("pound", "penny"), "€": ("euro", "cent")}

# SIM905 is off twice: as list literals these would be one word a line
_ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905
_SCALES = ((1_000_000_000, "billion"), (1_000_000, "million"), (1_000, "thousand"))
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_NUMBER_WORDS = frozenset([*_ONES, *_TENS, "hundred", *(name for _, name in _SCALES)])

_TOKEN = re.compile(
    r"(?P<currency>[$£€])?(?P<whole>\d{1,3}(?:,\d{3})+|\d+)"
    r"(?:(?P<clock>:)(?P<minutes>\d\d)(?!\d)|\.(?P<decimals>\d+))?"
    r"(?P<suffix>st|nd|rd|th|%)?"
    r"|(?P<word>[^\W\d_]+(?:'[^\W\d_]+)*)"
)


@dataclass(frozen=True)
class Token:
    """A normalised word and the index of the written word that it comes from."""

    text: str
    source: int


def normalise(text: str) -> list[str]:
    """Normalise a text to the words that are compared."""
    return [token.text for token in normalise_words(text.split())]


def normalise_words(words: Sequence[str]) -> list[Token]:
    """Normalise written words, remembering which word each token comes from.

    Args:
        words: Written words, with their punctuation; one may become several tokens or none.

    Returns:
        The tokens in order.
    """
    tokens = [
        Token(SPELLINGS.get(text, text), index)
        for index, word in enumerate(words)
        for text in _tokens_of(word)
        if text not in HESITATIONS
    ]
    return [token for index, token in enumerate(tokens) if not _inside_number(tokens, index)]


def spell(number: int) -> list[str]:
    """Spell a whole number below 10^12 the American way: without "and"."""
    for size, name in _SCALES:
        if number >= size:
            return [*spell(number // size), name, *_spell_rest(number % size)]
    if number >= 100:
        return [_ONES[number // 100], "hundred", *_spell_rest(number % 100)]
    if number >= 20:
        return [_TENS[number // 10], *_spell_rest(number % 10)]
    return [_ONES[number]]


def _spell_rest(number: int) -> list[str]:
    return spell(number) if number else []


def _inside_number(tokens: list[Token], index: int) -> bool:
    """Tell whether a token is the "and" of "nine hundred and fifty"."""
    if tokens[index].text != "and" or not 0 < index < len(tokens) - 1:
        return False
    before, after = tokens[index - 1].text, tokens[index + 1].text
    return before in {"hundred", "thousand"} and after in _NUMBER_WORDS


def _tokens_of(word: str) -> list[str]:
    plain = (
        unicodedata.normalize("NFKC", word).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return [text for match in _TOKEN.finditer(plain) for text in _tokens_of_match(match)]


def _tokens_of_match(match: re.Match[str]) -> list[str]:
    if match["word"]:
        return [match["word"]]
    figures = match["whole"].replace(",", "")
    if len(figures) > 12:
        return [_ONES[int(figure)] for figure in figures]
    whole = int(figures)
    if match["currency"]:
        return _spell_money(whole, match["decimals"], *CURRENCIES[match["currency"]])
    if match["clock"]:
        return [*spell(whole), *_spell_minutes(match["minutes"])]
    number = spell(whole)
    if match["decimals"]:
        number += ["point", *(_ONES[int(figure)] for figure in match["decimals"])]
    if match["suffix"] == "%":
        return [*number, "percent"]
    return [*number[:-1], _ordinal(number[-1])] if match["suffix"] else number


def _spell_money(whole: int, decimals: str | None, unit: str, part: str) -> list[str]:
    parts = int((decimals or "0").ljust(2, "0")[:2])
    money = [*spell(whole), unit if whole == 1 else f"{unit}s"]
    return [*money, *spell(parts), part if parts == 1 else f"{part}s"] if parts else money


def _spell_minutes(minutes: str) -> list[str]:
    if minutes == "00":
        return []
    return ["oh", _ONES[int(minutes)]] if minutes[0] == "0" else spell(int(minutes))


def _ordinal(word: str) -> str:
    if word in _IRREGULAR_ORDINALS:
        return _IRREGULAR_ORDINALS[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th"

"""A document's words, each with its times and the space before it, as text that breaks no file.

Takes a `Document`, also one without words (plain WhisperX, stock without an aligner); returns
`Spoken` words in the document's order. What nobody timed lies between its neighbours.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby, pairwise

from bucketscribe_render.document import Document, Line, Word

CJK = "\u2e80-\u30ff\u31f0-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
"""A character class's ranges: Han, kana, and the punctuation and letters as wide as they are."""
SPACELESS = CJK + "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"
"""The same with Thai, Lao, Tibetan, Burmese and Khmer: no space stands between words."""

_IS_CJK = re.compile(f"[{CJK}]")
_UNIT = re.compile(rf"[{CJK}]|[^\s{CJK}]+")
UNSEEN = dict.fromkeys(
    (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
)
"""Control characters, and what turns lines around; what joins letters stays."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """A word, on one line; times in seconds from the start of the recording."""

    text: str
    start_s: float
    end_s: float
    speaker: str | None
    space: bool
    score: float | None = None


def clock_time(seconds: float) -> str:
    """Return a span as ``h:mm:ss``."""
    whole = max(0, int(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def flat(text: str) -> str:
    """Return text on one line, safe on any terminal: a blank line inside a cue would end it."""
    return " ".join(" ".join(text.split()).translate(UNSEEN).split())


def width_of(text: str) -> int:
    """Return how many columns text takes: two a full-width character, none a mark upon one."""
    if text.isascii():
        return len(text)
    return sum(
        (unicodedata.category(c) not in ("Mn", "Me", "Cf"))
        + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def joined(words: Iterable[Spoken]) -> str:
    """Return words as running text."""
    return "".join(" " * word.space + word.text for word in words).strip()


def words_of(document: Document) -> Iterator[Spoken]:
    """Return all words in order."""
    last = ""
    for line in document.lines:
        text = flat(line.text)
        if text:
            is_joined = _IS_CJK.match(last[-1:]) and _IS_CJK.match(text)
            for word in _words_of_line(line, text, space=not is_joined):
                name = document.name_of(word.speaker)
                yield word if name == word.speaker else replace(word, speaker=flat(name or ""))
            last = text


def spread(start_s: float, end_s: float, texts: Sequence[str]) -> list[tuple[float, float]]:
    """Share time among texts by their widths; returns the start and end of each."""
    edges = list(accumulate((max(1, width_of(text)) for text in texts), initial=0))
    a_column_s = max(0.0, end_s - start_s) / edges[-1]
    return list(pairwise(start_s + edge * a_column_s for edge in edges))


def _words_of_line(line: Line, text: str, space: bool) -> Iterator[Spoken]:
    """Return a line's words; where they do not make up its text, the text's own."""
    words = [(shown, word) for word in line.words if (shown := flat(word.text))]
    if "".join(shown for shown, _ in words).replace(" ", "") != text.replace(" ", ""):
        words = [(unit, Word(word=unit)) for unit in _UNIT.findall(text)]
    # before which letters, counted without spaces, one stands
    spaces = set(accumulate(len(part) for part in text.split(" "))) | ({0} if space else set())
    at = 0
    for (shown, word), (start_s, end_s) in zip(words, _times_of(line, words), strict=True):
        speaker = flat(word.speaker or line.speaker or "") or None
        yield Spoken(shown, start_s, end_s, speaker, at in spaces, word.score)
        at += len(shown.replace(" ", ""))


def _times_of(line: Line, words: Sequence[tuple[str, Word]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for is_timed, group in groupby(words, key=lambda pair: pair[1].times is not None):
        some = list(group)
        if is_timed:
            found += [word.times for _, word in some if word.times]
        else:
            start_s = found[-1][1] if found else line.start_s
            after = words[len(found) + len(some) :]
            end_s = after[0][1].times[0] if after and after[0][1].times else line.end_s
            found += spread(start_s, end_s, [shown for shown, _ in some])
    return found

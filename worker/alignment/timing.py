"""From the times of characters to those of words and sentences, as whisperx derives them.

Follows ``whisperx/alignment.py`` 3.8.6, lines 295-411, whose pandas operations are written out:
``min``, ``max`` and ``mean`` skip what has no time, ``interpolate(method="nearest")`` takes the
earlier of two that are equally near, and ``groupby`` sorts, merges equals and drops NaN.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from worker.alignment.sentences import Span

Times = list[float | None]


@dataclass(frozen=True)
class CharacterTimes:
    """Times in seconds and scores in [0, 1] of each character of a text; None: it has none."""

    starts: Times
    ends: Times
    scores: Times


@dataclass(frozen=True)
class PlacedWord:
    """A word; NaN or None is what no character of it gives."""

    word: str
    start: float
    end: float
    score: float | None


@dataclass(frozen=True)
class PlacedSentence:
    """A sentence with the times of its first and last character, in seconds."""

    text: str
    start: float
    end: float
    words: tuple[PlacedWord, ...]


def place_sentences(
    text: str, spans: Sequence[Span], times: CharacterTimes, has_spaces: bool
) -> list[PlacedSentence]:
    """Return the sentences in order of time.

    One whose characters have no times takes those of its neighbours, and is merged with them
    where they are then the same; text is missing where no sentence has any.

    Args:
        text: Of one segment.
        spans: Its sentences.
        times: Of its characters.
        has_spaces: Whether words are written apart.
    """
    words = _Words(text, times, has_spaces)
    sentences = [words.sentence(*span) for span in spans]
    starts = fill_from_nearest([s.start for s in sentences])
    ends = fill_from_nearest([s.end for s in sentences])
    timed = [
        replace(sentence, start=start, end=end)
        for sentence, start, end in zip(sentences, starts, ends, strict=True)
        if not (math.isnan(start) or math.isnan(end))
    ]
    return list(_merged(timed, " " if has_spaces else ""))


def fill_from_nearest(values: Sequence[float]) -> list[float]:
    """Replace each NaN by the nearest number in the list, the earlier of two; all NaN stay."""
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    if not known or len(known) == len(values):
        return list(values)
    middles = [(a + b) / 2 for a, b in pairwise(known)]
    return [values[known[bisect_left(middles, i)]] for i in range(len(values))]


class _Words:
    """The words of one text: each begins with the space before it, if there is one."""

    def __init__(self, text: str, times: CharacterTimes, has_spaces: bool) -> None:
        self._text, self._times = text, times
        inner = range(1, len(text))
        begins = [i for i in inner if not has_spaces or text[i] == " "]
        self._bounds = [0, *begins, len(text)]
        self._scores = np.array([s or 0.0 for s in times.scores], np.float64)

    def sentence(self, start: int, stop: int) -> PlacedSentence:
        """Return the sentence; the character after it is counted in, as whisperx does."""
        end = min(stop + 1, len(self._text))
        letters = (i for i in range(start, end) if self._text[i] != " ")
        words = [self._word(*span) for span in self._spans(start, end)]
        return PlacedSentence(
            self._text[start:stop],
            min(_known(self._times.starts[start:end]), default=math.nan),
            max(_known(self._times.ends[i] for i in letters), default=math.nan),
            tuple(_with_times(words)),
        )

    def _spans(self, start: int, end: int) -> Iterator[Span]:
        """Give the parts of words that lie in a sentence and are not white space."""
        first = bisect_right(self._bounds, start) - 1
        for a, b in pairwise(self._bounds[first:]):
            if a >= end:
                return
            span = max(a, start), min(b, end)
            if self._text[slice(*span)].strip():
                yield span

    def _word(self, start: int, end: int) -> PlacedWord:
        word = self._text[start:end].strip()
        if self._text[start] == " ":
            start += 1
        return PlacedWord(
            word,
            min(_known(self._times.starts[start:end]), default=math.nan),
            max(_known(self._times.ends[start:end]), default=math.nan),
            self._mean_score(start, end),
        )

    def _mean_score(self, start: int, end: int) -> float | None:
        """Return the mean, added up and rounded by NumPy as pandas has it."""
        count = sum(1 for _ in _known(self._times.scores[start:end]))
        if not count:
            return None
        mean: np.float64 = self._scores[start:end].sum() / count
        return float(round(mean, 3))


def _known(times: Iterable[float | None]) -> Iterator[float]:
    return (time for time in times if time is not None)


def _with_times(words: Sequence[PlacedWord]) -> Iterator[PlacedWord]:
    """Give the words; one without times takes those of the nearest word that has some."""
    starts = fill_from_nearest([word.start for word in words])
    ends = fill_from_nearest([word.end for word in words])
    for word, start, end in zip(words, starts, ends, strict=True):
        yield replace(word, start=start, end=end) if math.isnan(word.start) else word


def _merged(sentences: Sequence[PlacedSentence], joiner: str) -> Iterator[PlacedSentence]:
    """Give the sentences in order of their times, those with the same times as one."""
    groups: dict[tuple[float, float], list[PlacedSentence]] = {}
    for sentence in sentences:
        groups.setdefault((sentence.start, sentence.end), []).append(sentence)
    for (start, end), group in sorted(groups.items()):
        text = joiner.join(sentence.text for sentence in group)
        yield PlacedSentence(text, start, end, tuple(w for s in group for w in s.words))

"""Words: a segment's text and emission in, its sentences and words with times and scores out.

Follows ``whisperx/alignment.py`` 3.8.6, lines 295-411, whose pandas operations are written out:
``min``, ``max`` and ``mean`` skip what has no time, ``interpolate(method="nearest")`` takes the
earlier of two that are equally near, ``groupby`` sorts, merges equals and drops NaN. What
whisperx does not know, where sentences end in other scripts, is left out in stock mode. Raises
LookupError where the models folder has no tables for sentences.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise

import nltk
import numpy as np
import regex
import torch
from nltk.tokenize.punkt import PunktTokenizer
from whisperx.utils import PUNKT_LANGUAGES

from worker.engines.alignment.ctc import Emission, TokenPath, find_path
from worker.engines.alignment.labels import SPACELESS, UNKNOWN, Alphabet, Characters, Labels
from worker.types import SAMPLE_RATE_HZ, TextSegment, Waveform

Span = tuple[int, int]
Times = list[float | None]

_END = regex.compile(
    # Unicode's ends of sentences that punkt does not know, wherever they stand; those it knows,
    # where a script without spaces goes on at once; with the quotes and brackets that they close
    r"""(?V1)(?:[\p{Sentence_Terminal}--[.!?]](?!\d)[\p{Sentence_Terminal}\p{Pe}\p{Pf}"']*"""
    rf"""|[.!?]+[\p{{Pe}}\p{{Pf}}"']*(?=[{SPACELESS}]))\s*"""
)
_CLOSING = regex.compile(r"(?:(?<!\s)[\p{Pe}\p{Pf}]+\s*)?")
_GREEK_END = regex.compile(r"""[;\u037e][\p{Pe}\p{Pf}"']*\s+""")


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


def slice_of(waveform: Waveform, segment: TextSegment) -> slice | None:
    """Return the segment's samples, or None where it begins after the waveform's end."""
    if segment.start >= waveform.duration_s:
        return None
    return slice(int(segment.start * SAMPLE_RATE_HZ), int(segment.end * SAMPLE_RATE_HZ))


def place_segment(
    segment: TextSegment,
    characters: Characters,
    emission: Emission,
    alphabet: Alphabet,
    is_stock: bool,
) -> list[PlacedSentence]:
    """Return the segment's sentences in order of time; none where its text cannot be placed.

    Text may be missing, as it is in whisperx: where a sentence has no times, and where there are
    fewer frames than characters.

    Args:
        segment: Text and times.
        characters: Of its text, at least one.
        emission: Of its samples, shape (n_frames, n_labels).
        alphabet: The aligner's labels.
        is_stock: Whether sentences are whisperx's.
    """
    emission, tokens = _with_wildcard(emission, characters.tokens, alphabet.blank)
    path = find_path(emission, tokens, alphabet.blank)
    if path is None:
        return []
    times = _character_times(segment, path, characters, len(emission))
    spans = split_sentences(segment.text, alphabet.language, is_stock)
    return place_sentences(segment.text, spans, times, alphabet.has_spaces, is_stock)


def split_sentences(text: str, language: str | None, is_stock: bool = False) -> list[Span]:
    """Return where each sentence begins and ends in the text.

    Args:
        text: As Whisper gave it.
        language: ISO 639-1; one without tables is split as English is, as whisperx does it.
        is_stock: Whether other scripts' sentences end nowhere, as in whisperx.

    Raises:
        LookupError: The models folder has no tables.
    """
    spans = list(_splitter(PUNKT_LANGUAGES.get(language, "english")).span_tokenize(text))
    return spans if is_stock or not spans else list(_split_further(text, spans, language))


def place_sentences(
    text: str,
    spans: Sequence[Span],
    times: CharacterTimes,
    has_spaces: bool,
    is_stock: bool = False,
) -> list[PlacedSentence]:
    """Return the sentences in order of time.

    One whose characters have no times takes those of its neighbours, and is merged with them
    where they are then the same; text is missing where no sentence has any.

    Args:
        text: Of one segment.
        spans: Its sentences.
        times: Of its characters.
        has_spaces: Whether words are written apart.
        is_stock: Whether the character after a sentence is counted in, as whisperx does.
    """
    words = _Words(text, times, has_spaces, 1 if is_stock else 0)
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


def _split_further(text: str, spans: Sequence[Span], language: str | None) -> Iterator[Span]:
    """Give the sentences of what punkt takes for some."""
    start, stop = spans[0][0], spans[-1][1]
    cuts = {begin for begin, _ in spans} | {found.end() for found in _END.finditer(text)}
    if language == "el":
        cuts |= {found.end() for found in _GREEK_END.finditer(text)}
    closed = (_CLOSING.match(text, cut).end() for cut in cuts)
    for a, b in pairwise([start, *sorted({cut for cut in closed if start < cut < stop}), stop]):
        yield a, a + len(text[a:b].rstrip())


def _with_wildcard(emission: Emission, tokens: Labels, blank: int) -> tuple[Emission, Labels]:
    """Give unknown characters a label: as probable as the most probable that is not the blank."""
    unknown = tokens == UNKNOWN
    if not unknown.any():
        return emission, tokens
    best = np.delete(emission, blank, axis=1).max(axis=1, keepdims=True)
    n_labels = emission.shape[1]
    return np.concatenate([emission, best], axis=1), np.where(unknown, n_labels, tokens)


def _character_times(
    segment: TextSegment, path: TokenPath, characters: Characters, n_frames: int
) -> CharacterTimes:
    """Return each character's times and score.

    The probabilities come from torch's ``exp``, and are added up by Python, as in whisperx:
    NumPy's ``exp`` differs in the last bit of four numbers out of ten.
    """
    frame_s = (segment.end - segment.start) / n_frames
    bounds: list[int] = path.bounds.tolist()
    first = bounds[0]
    probabilities: list[float] = torch.exp(torch.from_numpy(path.log_probabilities)).tolist()
    empty: Times = [None] * len(segment.text)
    times = CharacterTimes(empty, empty.copy(), empty.copy())
    for k, position in enumerate(characters.positions):
        start, end = bounds[k], bounds[k + 1]
        score = sum(probabilities[start - first : end - first]) / (end - start)
        times.starts[position] = round(start * frame_s + segment.start, 3)
        times.ends[position] = round(end * frame_s + segment.start, 3)
        times.scores[position] = round(score, 3)
    return times


class _Words:
    """The words of one text: each begins with the space before it, if there is one."""

    def __init__(self, text: str, times: CharacterTimes, has_spaces: bool, ahead: int) -> None:
        self._text, self._times, self._ahead = text, times, ahead
        inner = range(1, len(text))
        begins = [i for i in inner if not has_spaces or text[i] == " "]
        self._bounds = [0, *begins, len(text)]
        self._scores = np.array([s or 0.0 for s in times.scores], np.float64)

    def sentence(self, start: int, stop: int) -> PlacedSentence:
        """Return the sentence, with what of the characters after it is counted in."""
        end = min(stop + self._ahead, len(self._text))
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


class _Counts(dict[str, int]):
    """Counts that are 0 where there is none; NLTK's own would keep every word it ever sees."""

    def __missing__(self, _: str) -> int:
        return 0


@cache
def _splitter(name: str) -> PunktTokenizer:
    splitter = nltk.tokenize.PunktTokenizer(name)
    splitter._params.ortho_context = _Counts(splitter._params.ortho_context)
    return splitter

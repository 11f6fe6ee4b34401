"""Attribute: sentences and speaker turns to the segments of the transcript document.

Takes an `Alignment` and a `Diarization`; returns the contract's `Segment`s, on the recording's
own clock and within it: models pad, so the last word may seem to end after the last sample.

A word is that of the exclusive speaker who overlaps it longest; one that nobody overlaps goes with
the nearest word of its sentence, a sentence without any with the nearest turn; a single word within
somebody else's sentence is taken back. A sentence is cut where its speaker changes. What that is
worth is in docs/accuracy.md; `attribute_as_stock` has WhisperX's rule.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from whisperx.diarize import IntervalTree

from bucketscribe_contract import Segment, Word
from worker.types import Alignment, Diarization, SpeakerTurn, TimedSegment, TimedWord, letters

PAUSE_S = 0.3
"""A single word is somebody else's in a sentence only between two pauses of so long."""
OVERLAPPED_SHARE = 0.5
"""Of a word's time, in which two people speak, above which it is marked."""
_Shift = Callable[[float], float]


@dataclass(frozen=True)
class _Said:
    """A word, or a sentence without words, and who said it."""

    start: float
    end: float
    speaker: str | None


def attribute(
    alignment: Alignment, diarization: Diarization, offset_s: float, duration_s: float
) -> tuple[Segment, ...]:
    """Return the document's segments in order.

    Args:
        alignment: Sentences with their words.
        diarization: Speaker turns; none: every speaker is null.
        offset_s: Where the waveform starts in the recording, added to all times.
        duration_s: Length of the waveform; nothing ends after it.
    """
    turns = _Turns(diarization.exclusive)
    overlaps = _Turns([SpeakerTurn(*times, "") for times in _overlaps(diarization.turns)])
    parts = [part for said in alignment.segments for part in _one_speaker_each(said, turns)]
    shift = _shift(offset_s, duration_s)

    def is_overlapped(word: TimedWord) -> bool:
        seconds = sum(seconds for _, seconds in overlaps.during(word.start, word.end))
        return seconds > OVERLAPPED_SHARE * (word.end - word.start)

    return tuple(
        _segment(number, said, speaker, who, shift, is_overlapped)
        for number, (said, speaker, who) in enumerate(parts)
    )


def attribute_as_stock(
    alignment: Alignment, diarization: Diarization, offset_s: float, duration_s: float
) -> tuple[Segment, ...]:
    """Do as ``whisperx.assign_word_speakers``; arguments and result as of `attribute`.

    Whoever overlaps a word longest said it, and whoever overlaps a sentence longest is said to
    have said all of it; where nobody does, the speaker is null.
    """
    turns = IntervalTree([(turn.start, turn.end, turn.speaker) for turn in diarization.turns])
    shift = _shift(offset_s, duration_s)
    return tuple(
        _segment(
            number,
            said,
            _longest(turns.query(said.start, said.end)),
            [_longest(turns.query(word.start, word.end)) for word in said.words],
            shift,
        )
        for number, said in enumerate(alignment.segments)
    )


class _Turns:
    """Turns of which no two overlap, for questions about many times."""

    def __init__(self, turns: Sequence[SpeakerTurn]) -> None:
        self._turns = sorted(turns, key=lambda turn: turn.start)
        self._starts = [turn.start for turn in self._turns]
        self._ends = [turn.end for turn in self._turns]

    def during(self, start: float, end: float) -> Iterator[tuple[str, float]]:
        """Give who speaks for how many seconds of a time."""
        for turn in self._turns[bisect_right(self._ends, start) : bisect_left(self._starts, end)]:
            yield turn.speaker, min(turn.end, end) - max(turn.start, start)

    def nearest(self, start: float, end: float) -> str | None:
        """Return whose turn is nearest to a time; None: there is no turn."""
        after = bisect_left(self._starts, start)
        beside = self._turns[max(after - 1, 0) : after + 1]
        found = min(beside, key=_distance_from(start, end), default=None)
        return found.speaker if found else None


def _one_speaker_each(
    sentence: TimedSegment, turns: _Turns
) -> Iterator[tuple[TimedSegment, str | None, list[str | None]]]:
    """Give a sentence, or its parts where its speaker changes, with who said it and each word."""
    if not sentence.words:
        times = sentence.start, sentence.end
        yield sentence, _longest(turns.during(*times)) or turns.nearest(*times), []
        return
    who = _words_speakers(sentence, turns)
    runs = [(speaker, len(list(run))) for speaker, run in groupby(who)]
    if len(runs) == 1:
        yield sentence, who[0], who
        return
    texts = _cut(sentence, [count for _, count in runs])
    first = 0
    for number, ((speaker, count), text) in enumerate(zip(runs, texts, strict=True)):
        words = sentence.words[first : first + count]
        start = words[0].start if number else sentence.start
        end = max(word.end for word in words) if number < len(runs) - 1 else sentence.end
        part = replace(sentence, start=start, end=max(start, end), text=text, words=words)
        yield part, speaker, [speaker] * count
        first += count


def _words_speakers(sentence: TimedSegment, turns: _Turns) -> list[str | None]:
    words = sentence.words
    said = [_Said(w.start, w.end, _longest(turns.during(w.start, w.end))) for w in words]
    known = [one for one in said if one.speaker]
    if not known:
        return [turns.nearest(sentence.start, sentence.end)] * len(words)
    filled = [
        one if one.speaker else replace(one, speaker=_nearest(known, one).speaker) for one in said
    ]
    return [one.speaker for one in _without_single_words(filled)]


def _without_single_words(said: Sequence[_Said]) -> list[_Said]:
    """Give a run of one word to its nearer neighbour, unless it stands between two pauses."""
    kept = list(said)
    for at, one in enumerate(said):
        beside = [said[i] for i in (at - 1, at + 1) if 0 <= i < len(said)]
        if not beside or any(other.speaker == one.speaker for other in beside):
            continue
        distances = [_distance_from(one.start, one.end)(other) for other in beside]
        if len(beside) < 2 or min(distances) < PAUSE_S:  # noqa: PLR2004  # one on each side
            kept[at] = replace(one, speaker=_nearest(beside, one).speaker)
    return kept


def _nearest(others: Sequence[_Said], one: _Said) -> _Said:
    return min(others, key=_distance_from(one.start, one.end))


def _distance_from(start: float, end: float) -> Callable[[_Said | SpeakerTurn], float]:
    return lambda other: max(other.start - end, start - other.end)


def _cut(sentence: TimedSegment, counts: Sequence[int]) -> list[str]:
    """Cut the sentence's text after so many words each: all of it is kept."""
    spoken = iter(sentence.words)
    ends = []
    at = 0
    for count in counts:
        left = sum(len(letters(next(spoken).word)) for _ in range(count))
        while left > 0:
            left -= not sentence.text[at].isspace()
            at += 1
        ends.append(at)
    bounds = [0, *ends[:-1], len(sentence.text)]
    return [sentence.text[start:stop].strip() for start, stop in pairwise(bounds)]


def _overlaps(turns: Sequence[SpeakerTurn]) -> Iterator[tuple[float, float]]:
    """Give the times in which two or more people speak."""
    changes = sorted(
        [(turn.start, 1) for turn in turns] + [(turn.end, -1) for turn in turns],
    )
    at_once = 0
    for (time, change), (following, _) in pairwise(changes):
        at_once += change
        if at_once > 1 and following > time:
            yield time, following


def _longest(spoken: Iterable[tuple[str, float]]) -> str | None:
    """Return who speaks longest; of equals, who begins first; None: nobody does."""
    seconds: dict[str, float] = {}
    for speaker, overlap_s in spoken:
        seconds[speaker] = seconds.get(speaker, 0.0) + overlap_s
    return max(seconds, key=seconds.__getitem__, default=None)


def _shift(offset_s: float, duration_s: float) -> _Shift:
    end_s = round(offset_s + duration_s, 3)
    return lambda time_s: min(max(round(time_s + offset_s, 3), 0.0), end_s)


def _segment(
    number: int,
    said: TimedSegment,
    speaker: str | None,
    who: Sequence[str | None],
    shift: _Shift,
    do_overlap: Callable[[TimedWord], bool] = lambda _: False,
) -> Segment:
    words = (
        Word(
            word=word.word,
            start=shift(word.start),
            end=shift(word.end),
            score=word.score,
            speaker=by,
            timing=word.timing,
            overlap=do_overlap(word),
        )
        for word, by in zip(said.words, who, strict=True)
    )
    confidence = said.confidence
    return Segment(
        id=number,
        start=shift(said.start),
        end=shift(said.end),
        text=said.text,
        speaker=speaker,
        words=tuple(words),
        avg_logprob=_rounded(confidence.avg_logprob),
        compression_ratio=_rounded(confidence.compression_ratio),
        no_speech_prob=_rounded(confidence.no_speech_prob),
        flags=confidence.flags,
    )


def _rounded(figure: float | None) -> float | None:
    return None if figure is None else round(figure, 3)

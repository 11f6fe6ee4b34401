"""Attribute: sentences and speaker turns to the segments of the transcript document.

Takes an `Alignment` and a `Diarization`; returns the contract's `Segment`s, on the recording's
own clock and within it: models pad, so the last word may seem to end after the last sample. Who
spoke a word is who overlaps it longest, as ``whisperx.assign_word_speakers`` decides it; where
nobody does, the speaker is null.
"""

from __future__ import annotations

from collections.abc import Callable

from whisperx.diarize import IntervalTree

from bucketscribe_contract import Segment, Word
from worker.types import Alignment, Diarization, TimedSegment, TimedWord

_Shift = Callable[[float], float]


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
    turns = IntervalTree([(turn.start, turn.end, turn.speaker) for turn in diarization.turns])
    end_s = round(offset_s + duration_s, 3)

    def shift(time_s: float) -> float:
        return min(max(round(time_s + offset_s, 3), 0.0), end_s)

    return tuple(_segment(n, said, turns, shift) for n, said in enumerate(alignment.segments))


def _speaker(turns: IntervalTree, start: float, end: float) -> str | None:
    """Return who overlaps a time longest; of equals, who begins first."""
    overlap_s: dict[str, float] = {}
    for speaker, seconds in turns.query(start, end):
        overlap_s[speaker] = overlap_s.get(speaker, 0.0) + seconds
    return max(overlap_s, key=overlap_s.__getitem__, default=None)


def _segment(number: int, said: TimedSegment, turns: IntervalTree, shift: _Shift) -> Segment:
    return Segment(
        id=number,
        start=shift(said.start),
        end=shift(said.end),
        text=said.text,
        speaker=_speaker(turns, said.start, said.end),
        words=tuple(
            _word(word, _speaker(turns, word.start, word.end), shift) for word in said.words
        ),
    )


def _word(timed: TimedWord, speaker: str | None, shift: _Shift) -> Word:
    return Word(
        word=timed.word,
        start=shift(timed.start),
        end=shift(timed.end),
        score=timed.score,
        speaker=speaker,
        timing=timed.timing,
    )

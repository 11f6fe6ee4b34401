"""Attribute: sentences and speaker turns to the segments of the transcript document.

Takes an `Alignment` and a `Diarization`; returns the contract's `Segment`s, on the recording's
own clock. Who spoke a word is who overlaps it longest, as ``whisperx.assign_word_speakers``
decides it; where nobody does, the speaker is null.
"""

from __future__ import annotations

from whisperx.diarize import IntervalTree

from bucketscribe_contract import Segment, Word, WordTiming
from worker.types import Alignment, Diarization, TimedSegment, TimedWord


def attribute(
    alignment: Alignment, diarization: Diarization, offset_s: float
) -> tuple[Segment, ...]:
    """Return the document's segments in order.

    Args:
        alignment: Sentences with their words.
        diarization: Speaker turns; none: every speaker is null.
        offset_s: Where the waveform starts in the recording, added to all times.
    """
    turns = IntervalTree([(turn.start, turn.end, turn.speaker) for turn in diarization.turns])
    return tuple(_segment(n, said, turns, offset_s) for n, said in enumerate(alignment.segments))


def _speaker(turns: IntervalTree, start: float, end: float) -> str | None:
    """Return who overlaps a time longest; of equals, who begins first."""
    overlap_s: dict[str, float] = {}
    for speaker, seconds in turns.query(start, end):
        overlap_s[speaker] = overlap_s.get(speaker, 0.0) + seconds
    return max(overlap_s, key=overlap_s.__getitem__, default=None)


def _segment(number: int, said: TimedSegment, turns: IntervalTree, offset_s: float) -> Segment:
    return Segment(
        id=number,
        start=_shift(said.start, offset_s),
        end=_shift(said.end, offset_s),
        text=said.text,
        speaker=_speaker(turns, said.start, said.end),
        words=tuple(
            _word(word, _speaker(turns, word.start, word.end), offset_s) for word in said.words
        ),
    )


def _word(timed: TimedWord, speaker: str | None, offset_s: float) -> Word:
    return Word(
        word=timed.word,
        start=_shift(timed.start, offset_s),
        end=_shift(timed.end, offset_s),
        score=timed.score,
        speaker=speaker,
        timing=WordTiming.INTERPOLATED if timed.score is None else WordTiming.ALIGNED,
    )


def _shift(time_s: float, offset_s: float) -> float:
    """Return a time on the recording's clock, to the millisecond."""
    return max(round(time_s + offset_s, 3), 0.0)

"""Attribute: sentences and speaker turns to the segments of the transcript document.

Takes an `Alignment` and a `Diarization`; returns the contract's `Segment`s, on the recording's
own clock. Who spoke a word is who overlaps it longest, as ``whisperx.assign_word_speakers``
decides it; where nobody does, the speaker is null.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import whisperx

from contract import Segment, Word, WordTiming
from worker.values import Alignment, Diarization, TimedSegment, TimedWord


def attribute(
    alignment: Alignment, diarization: Diarization, offset_s: float
) -> tuple[Segment, ...]:
    """Return the document's segments in order.

    Args:
        alignment: Sentences with their words.
        diarization: Speaker turns; none: every speaker is null.
        offset_s: Where the waveform starts in the recording, added to all times.
    """
    plain: dict[str, Any] = {"segments": [_as_whisperx(s) for s in alignment.segments]}
    turns = pd.DataFrame(
        [(turn.start, turn.end, turn.speaker) for turn in diarization.turns],
        columns=["start", "end", "speaker"],
    )
    spoken = whisperx.assign_word_speakers(turns, plain)["segments"]
    return tuple(_segment(number, found, offset_s) for number, found in enumerate(spoken))


def _as_whisperx(segment: TimedSegment) -> dict[str, Any]:
    return {
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
        "words": [
            {"word": w.word, "start": w.start, "end": w.end, "timed": w} for w in segment.words
        ],
    }


def _segment(number: int, found: dict[str, Any], offset_s: float) -> Segment:
    return Segment(
        id=number,
        start=_shift(found["start"], offset_s),
        end=_shift(found["end"], offset_s),
        text=found["text"],
        speaker=found.get("speaker"),
        words=tuple(_word(w["timed"], w.get("speaker"), offset_s) for w in found["words"]),
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
    shifted = round(time_s + offset_s, 3)
    if not math.isfinite(shifted):
        raise ValueError("a time in the transcript is not finite")
    return max(shifted, 0.0)

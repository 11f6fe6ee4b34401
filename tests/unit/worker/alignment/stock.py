"""What ``whisperx.align`` says of a segment, in our values: the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.engines.alignment.acoustic import Aligner
    from worker.engines.alignment.words import PlacedSentence
    from worker.types import TextSegment, Waveform


@contextmanager
def _splitters_kept() -> Iterator[None]:
    """Keep whisperx from reading its sentence splitter for every segment anew: it takes long."""
    import whisperx.alignment as stock

    load = stock.nltk_load
    stock.nltk_load = _kept()
    try:
        yield
    finally:
        stock.nltk_load = load


@cache
def _kept() -> Any:
    import nltk.data

    nltk.data.clear_cache()  # another test may have read another folder's tables
    return cache(nltk.data.load)


def stock_sentences(
    waveform: Waveform, segment: TextSegment, aligner: Aligner
) -> list[PlacedSentence]:
    """Align one segment with whisperx; none where it raises, or gives no words."""
    import whisperx

    asked = {"start": segment.start, "end": segment.end, "text": segment.text}
    try:
        with _splitters_kept():
            found = whisperx.align(
                [asked], aligner.model, aligner.metadata, waveform.float32, "cpu"
            )
    except (KeyError, ValueError, IndexError):
        return []
    return [_sentence(s) for s in found["segments"] if s["words"] or s["text"] != segment.text]


def _sentence(found: dict[str, Any]) -> PlacedSentence:
    from worker.engines.alignment.words import PlacedSentence, PlacedWord

    words = (
        PlacedWord(w["word"], w.get("start", math.nan), w.get("end", math.nan), w.get("score"))
        for w in found["words"]
    )
    return PlacedSentence(found["text"], found["start"], found["end"], tuple(words))

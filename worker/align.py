"""Align: text segments to sentences whose words have times, with whisperx.align.

Takes a `Waveform` and a `Transcription`; returns an `Alignment`. It may move times and split
segments into sentences; it never drops text. Where whisperx loses some (sentences without any
time fall out of its ``groupby``), raises, or gives a word no time, the segment's own words are
spread over the segment by length and marked interpolated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import whisperx
from torch import nn
from whisperx.utils import LANGUAGES_WITHOUT_SPACES

from contract import Stage, WarningCode
from worker.cancel import CancelToken, checked_before_each_forward
from worker.values import (
    Alignment,
    TextSegment,
    TimedSegment,
    TimedWord,
    Transcription,
    Waveform,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aligner:
    """A wav2vec2 CTC model of one language, as ``whisperx.load_align_model`` gives it."""

    model: nn.Module
    metadata: dict[str, Any]
    name: str

    @property
    def joiner(self) -> str:
        """What stands between words in this language."""
        return "" if self.metadata["language"] in LANGUAGES_WITHOUT_SPACES else " "


def align(
    waveform: Waveform,
    transcription: Transcription,
    aligner: Aligner | None,
    device: torch.device,
    token: CancelToken,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Alignment:
    """Return sentences with word times.

    Args:
        waveform: The recording.
        transcription: Its text.
        aligner: Of the transcription's language; None: segments stay as they are, without
            words, and ``ALIGNMENT_UNAVAILABLE`` says so.
        device: Where the aligner lives.
        token: Looked at before every segment.
        on_progress: Given the share of segments done, in [0, 1].
    """
    segments = _spoken(transcription)
    if not segments:
        return Alignment(())
    if aligner is None:
        plain = tuple(TimedSegment(s.start, s.end, s.text.strip()) for s in segments)
        return Alignment(plain, (WarningCode.ALIGNMENT_UNAVAILABLE,))
    audio = torch.from_numpy(waveform.float32)
    sentences: list[TimedSegment] = []
    failed = False
    for done, segment in enumerate(segments, 1):
        with checked_before_each_forward(token, Stage.ALIGN, aligner.model):
            found = _align_one(segment, audio, aligner, device)
        failed = failed or found is None
        sentences += found or [_spread(segment, waveform.duration_s, aligner.joiner)]
        on_progress(done / len(segments))
    return Alignment(tuple(sentences), (WarningCode.ALIGNMENT_FAILED,) if failed else ())


def interpolate(waveform: Waveform, transcription: Transcription, joiner: str) -> Alignment:
    """Return the segments with their words spread over them, where the aligner failed.

    Args:
        waveform: The recording.
        transcription: Its text.
        joiner: What stands between words in its language.
    """
    spread = tuple(_spread(s, waveform.duration_s, joiner) for s in _spoken(transcription))
    return Alignment(spread, (WarningCode.ALIGNMENT_FAILED,))


def _spoken(transcription: Transcription) -> list[TextSegment]:
    return [segment for segment in transcription.segments if segment.text.strip()]


def _align_one(
    segment: TextSegment, audio: torch.Tensor, aligner: Aligner, device: torch.device
) -> list[TimedSegment] | None:
    """Return the segment's sentences, or None where whisperx could not keep its text."""
    asked = {"start": segment.start, "end": segment.end, "text": segment.text}
    try:
        found = whisperx.align([asked], aligner.model, aligner.metadata, audio, str(device))
    except (KeyError, ValueError, IndexError) as exc:
        logger.warning("align: whisperx raised %s, words are interpolated", type(exc).__name__)
        return None
    sentences = [_timed(s, aligner.joiner) for s in found["segments"]]
    kept = [s for s in sentences if s is not None]
    if len(kept) < len(sentences) or not _holds_all(segment.text, kept):
        return None
    return kept


def _timed(sentence: dict[str, Any], joiner: str) -> TimedSegment | None:
    """Return a sentence of whisperx as ours, or None where it has no times or no words."""
    start, end, words = sentence["start"], sentence["end"], sentence["words"]
    if not words or not (math.isfinite(start) and math.isfinite(end)):
        return None
    start, end = float(start), max(float(start), float(end))
    if any("start" not in word or "end" not in word for word in words):
        spread = _spread_words([w["word"] for w in words], start, end, joiner)
        return TimedSegment(start, end, sentence["text"].strip(), spread)
    timed = tuple(
        TimedWord(
            word["word"],
            float(word["start"]),
            max(float(word["start"]), float(word["end"])),
            _score(word),
        )
        for word in words
    )
    return TimedSegment(start, end, sentence["text"].strip(), timed)


def _score(word: dict[str, Any]) -> float | None:
    return min(max(float(word["score"]), 0.0), 1.0) if "score" in word else None


def _holds_all(text: str, sentences: Sequence[TimedSegment]) -> bool:
    wanted = _letters(text)
    in_text = _letters("".join(s.text for s in sentences))
    in_words = _letters("".join(w.word for s in sentences for w in s.words))
    return in_text == wanted == in_words


def _letters(text: str) -> str:
    return "".join(text.split())


def _spread(segment: TextSegment, duration_s: float, joiner: str) -> TimedSegment:
    start = min(segment.start, duration_s)
    end = max(start, min(segment.end, duration_s))
    text = segment.text.strip()
    words = text.split() if joiner else list(_letters(text))
    return TimedSegment(start, end, text, _spread_words(words, start, end, joiner))


def _spread_words(
    words: Sequence[str], start: float, end: float, joiner: str
) -> tuple[TimedWord, ...]:
    """Give each word a share of the time by its length."""
    total = len(joiner.join(words))
    timed, position = [], 0
    for word in words:
        first = start + (end - start) * position / total
        position += len(word)
        last = start + (end - start) * position / total
        timed.append(TimedWord(word, round(first, 3), round(last, 3), None))
        position += len(joiner)
    return tuple(timed)

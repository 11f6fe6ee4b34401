"""Align: text segments to sentences whose words have times, as whisperx.align gives them.

Takes a `Waveform` and a `Transcription`, or any part of it; returns an `Alignment`. It may move
times and split segments into sentences; it never drops text. Where whisperx loses some, raises, or
gives a word no time, the segment's words are spread over it by length, as interpolated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from bucketscribe_contract import Stage, WarningCode, WordTiming
from worker.cancel import StageContext
from worker.engines.alignment.acoustic import Aligner, emit, plan_batches
from worker.engines.alignment.labels import Alphabet
from worker.engines.alignment.words import PlacedSentence, PlacedWord, place_segment, slice_of
from worker.types import (
    Alignment,
    TextSegment,
    TimedSegment,
    TimedWord,
    Transcription,
    Waveform,
    letters,
)

logger = logging.getLogger(__name__)


def align(
    waveform: Waveform,
    transcription: Transcription,
    aligner: Aligner | None,
    ctx: StageContext,
) -> Alignment:
    """Return sentences with word times.

    Args:
        waveform: The recording.
        transcription: Its text, or any part of it.
        aligner: Of the transcription's language; None: segments stay as they are, without
            words, and ``ALIGNMENT_UNAVAILABLE`` says so.
        ctx: Checked before every batch. With a batch size of 1 segments are aligned one at a
            time, with whisperx's times and scores to the bit; with more, `plan_batches` groups
            them. With several lanes, which are for the CPU, batches are of one.
    """
    segments = _spoken(transcription)
    if not segments:
        return Alignment(())
    if aligner is None:
        plain = tuple(TimedSegment(s.start, s.end, s.text.strip()) for s in segments)
        return Alignment(plain, (WarningCode.ALIGNMENT_UNAVAILABLE,))
    aligned: dict[int, list[TimedSegment]] = {}
    # a hook, so that the job stops within a batch
    with aligner.model.register_forward_pre_hook(lambda *_: ctx.cancel.check(Stage.ALIGN)):
        for i, sentences in _place(waveform, segments, aligner, ctx):
            aligned[i] = _complete(segments[i], sentences, aligner.joiner)
            ctx.progress(len(aligned) / len(segments))
    return _in_order(waveform, segments, aligned, aligner.joiner)


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


def _place(
    waveform: Waveform,
    segments: Sequence[TextSegment],
    aligner: Aligner,
    ctx: StageContext,
) -> Iterator[tuple[int, list[PlacedSentence]]]:
    """Give each segment's index and sentences, in any order; text may be missing from them."""
    alphabet = Alphabet.of(aligner.metadata)
    characters = [alphabet.find(segment.text) for segment in segments]
    parts = [slice_of(waveform, segment) for segment in segments]
    heard = [i for i, part in enumerate(parts) if part and characters[i].positions]
    yield from ((i, []) for i in set(range(len(segments))) - set(heard))
    slices = [waveform.samples[parts[i]] for i in heard]
    lengths = [len(samples) for samples in slices]
    batches = plan_batches(lengths, ctx.batch_size if ctx.lanes == 1 else 1, aligner)
    for k, emission in emit(slices, batches, aligner, ctx.lanes):
        i = heard[k]
        yield i, place_segment(segments[i], characters[i], emission, alphabet)


def _in_order(
    waveform: Waveform,
    segments: Sequence[TextSegment],
    aligned: Mapping[int, list[TimedSegment]],
    joiner: str,
) -> Alignment:
    """Return all sentences; the words of a segment that has none are spread over it."""
    failed = sum(not sentences for sentences in aligned.values())
    if failed:
        logger.warning("align: words of %d of %d segments interpolated", failed, len(segments))
    sentences = (
        aligned[i] or [_spread(segment, waveform.duration_s, joiner)]
        for i, segment in enumerate(segments)
    )
    warnings = (WarningCode.ALIGNMENT_FAILED,) if failed else ()
    return Alignment(tuple(chain.from_iterable(sentences)), warnings)


def _complete(
    segment: TextSegment, sentences: Sequence[PlacedSentence], joiner: str
) -> list[TimedSegment]:
    """Return the segment's sentences, or none unless they hold all of its text."""
    if not all(sentence.words for sentence in sentences):
        return []
    timed = [_timed(sentence, joiner) for sentence in sentences]
    return timed if _holds_all(segment.text, timed) else []


def _timed(sentence: PlacedSentence, joiner: str) -> TimedSegment:
    """Return a sentence with words; if one of them has no times, all share the sentence's."""
    start, end = sentence.start, max(sentence.start, sentence.end)
    if any(math.isnan(word.start) for word in sentence.words):
        words = [word.word for word in sentence.words]
        timed = _spread_words(words, start, end, joiner)
    else:
        timed = tuple(_timed_word(word) for word in sentence.words)
    return TimedSegment(start, end, sentence.text.strip(), timed)


def _timed_word(word: PlacedWord) -> TimedWord:
    score = None if word.score is None else min(max(word.score, 0.0), 1.0)
    timing = WordTiming.INTERPOLATED if score is None else WordTiming.ALIGNED
    return TimedWord(word.word, word.start, max(word.start, word.end), score, timing)


def _holds_all(text: str, sentences: Sequence[TimedSegment]) -> bool:
    wanted = letters(text)
    in_text = letters("".join(s.text for s in sentences))
    in_words = letters("".join(w.word for s in sentences for w in s.words))
    return in_text == wanted == in_words


def _spread(segment: TextSegment, duration_s: float, joiner: str) -> TimedSegment:
    start = min(segment.start, duration_s)
    end = max(start, min(segment.end, duration_s))
    text = segment.text.strip()
    words = text.split() if joiner else list(letters(text))
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
        times = round(first, 3), round(last, 3)
        timed.append(TimedWord(word, *times, None, WordTiming.INTERPOLATED))
        position += len(joiner)
    return tuple(timed)

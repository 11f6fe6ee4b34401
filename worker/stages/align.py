"""Align: text segments to sentences whose words have times, as whisperx.align gives them.

Takes a `Waveform` and a `Transcription`, or any part of it; returns an `Alignment`. It may move
times and split segments into sentences; it never drops text. Words that the aligner has no letters
for, and all words where there is none, have the times of Whisper's attention, if it gave any.
Where whisperx loses text, raises, or gives a word no time, the segment's words are spread over it
by length, as interpolated.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate, groupby, islice

import numpy as np

from bucketscribe_contract import Stage, WarningCode, WordTiming
from worker.cancel import StageContext
from worker.engines.alignment.acoustic import Aligner, emit, plan_batches
from worker.engines.alignment.labels import Alphabet
from worker.engines.alignment.words import (
    PlacedSentence,
    PlacedWord,
    place_segment,
    slice_of,
    split_sentences,
)
from worker.engines.attention import SHORTEST_S, LetterTimes, keep_apart
from worker.types import (
    Alignment,
    Samples,
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
    *,
    is_stock: bool = False,
) -> Alignment:
    """Return sentences with word times.

    Args:
        waveform: The recording.
        transcription: Its text, or any part of it.
        aligner: Of the text's language; None: words have the times of Whisper's attention, and
            ``ALIGNMENT_UNAVAILABLE`` says so; segments without such words stay as they are.
        ctx: Checked before every batch. With a batch size of 1 segments are aligned one at a
            time, with whisperx's times and scores to the bit; with more, `plan_batches` groups
            them. With several lanes, which are for the CPU, batches are of one.
        is_stock: Whether times are the aligner's alone and sentences are whisperx's.
    """
    segments = _spoken(transcription)
    if not segments:
        return Alignment(())
    if aligner is None:
        return _unaligned(segments, transcription.text_language)
    aligned: dict[int, list[TimedSegment]] = {}
    # a hook, so that the job stops within a batch
    with aligner.model.register_forward_pre_hook(lambda *_: ctx.cancel.check(Stage.ALIGN)):
        for i, sentences in _place(waveform, segments, aligner, ctx, is_stock):
            found = _complete(segments[i], sentences, aligner.joiner)
            if segments[i].words and not is_stock:
                found = _with_attention(segments[i], found, Alphabet.of(aligner.metadata))
            aligned[i] = found
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
    is_stock: bool,
) -> Iterator[tuple[int, list[PlacedSentence]]]:
    """Give each segment's index and sentences, in any order; text may be missing from them."""
    alphabet = Alphabet.of(aligner.metadata)
    characters = [alphabet.find(segment.text) for segment in segments]
    parts = {i: part for i, one in enumerate(segments) if (part := slice_of(waveform, one))}
    heard = [i for i in parts if characters[i].positions]
    yield from ((i, []) for i in set(range(len(segments))) - set(heard))
    lengths = [len(range(*parts[i].indices(len(waveform.samples)))) for i in heard]
    batches = plan_batches(lengths, ctx.batch_size if ctx.lanes == 1 else 1, aligner)

    def read(k: int) -> Samples:
        return waveform.samples[parts[heard[k]]]

    for k, emission in emit(read, batches, aligner, ctx.lanes):
        i = heard[k]
        yield i, place_segment(segments[i], characters[i], emission, alphabet, is_stock)


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
        replace(sentence, confidence=segment.confidence)
        for i, segment in enumerate(segments)
        for sentence in aligned[i] or [_spread(segment, waveform.duration_s, joiner)]
    )
    warnings = (WarningCode.ALIGNMENT_FAILED,) if failed else ()
    return Alignment(tuple(sentences), warnings)


def _unaligned(segments: Sequence[TextSegment], language: str | None) -> Alignment:
    """Return the segments' sentences by attention's words; one without them as it is."""
    sentences = tuple(
        sentence
        for segment in segments
        for sentence in _attended(segment, language)
        or [TimedSegment(segment.start, segment.end, segment.text.strip(), (), segment.confidence)]
    )
    warning: str = WarningCode.ALIGNMENT_UNAVAILABLE
    if any(sentence.words for sentence in sentences):
        warning += ": words timed by attention"
    return Alignment(sentences, (warning,))


def _attended(segment: TextSegment, language: str | None) -> list[TimedSegment]:
    """Return the segment's sentences by attention's words; none unless they hold its text."""
    times, position = LetterTimes(segment.words), 0
    sentences = []
    for start, stop in split_sentences(segment.text, language) if segment.words else ():
        text = segment.text[start:stop].strip()
        words = times.cut(position, position := position + len(letters(text)))
        if words:
            sentences.append(
                TimedSegment(words[0].start, words[-1].end, text, words, segment.confidence)
            )
    return sentences if _holds_all(segment.text, sentences) else []


def _with_attention(
    segment: TextSegment, sentences: Sequence[TimedSegment], alphabet: Alphabet
) -> list[TimedSegment]:
    """Give words that the aligner has no letters for attention's times, between their neighbours.

    Args:
        segment: With attention's words.
        sentences: Its sentences with the aligner's words; together they hold its text, or none.
        alphabet: The aligner's.
    """
    words = [word for sentence in sentences for word in sentence.words]
    times, stops = LetterTimes(segment.words), [*accumulate(len(letters(w.word)) for w in words)]
    for is_spelled, run in groupby(range(len(words)), lambda i: alphabet.spells(words[i].word)):
        numbers = list(run)
        if is_spelled:
            continue
        first, after = numbers[0], numbers[-1] + 1
        earliest = words[first - 1].end if first else segment.start
        latest = words[after].start if after < len(words) else segment.end
        heard = [times.cut(stops[i] - len(letters(words[i].word)), stops[i]) for i in numbers]
        if all(heard) and latest - earliest >= SHORTEST_S * len(numbers):
            words[first:after] = _between(words[first:after], heard, earliest, latest)
    rest = iter(words)
    return [
        _with_words(sentence, tuple(islice(rest, len(sentence.words)))) for sentence in sentences
    ]


def _between(
    words: Sequence[TimedWord],
    heard: Sequence[Sequence[TimedWord]],
    earliest: float,
    latest: float,
) -> list[TimedWord]:
    """Return the words where attention or the aligner's wildcard hears them, within bounds.

    The wildcard begins late and attention ends early: "$950" ends with a word that its last
    character does not stand for.
    """
    starts = [min(w.start, parts[0].start) for w, parts in zip(words, heard, strict=True)]
    ends = [max(w.end, parts[-1].end) for w, parts in zip(words, heard, strict=True)]
    bounds = keep_apart(np.array(starts) - earliest, np.array(ends) - earliest, latest - earliest)
    return [
        TimedWord(
            word.word,
            round(start + earliest, 3),
            round(end + earliest, 3),
            parts[0].score,
            WordTiming.ATTENTION,
        )
        for word, parts, start, end in zip(words, heard, *bounds, strict=True)
    ]


def _with_words(sentence: TimedSegment, words: tuple[TimedWord, ...]) -> TimedSegment:
    if words == sentence.words:
        return sentence
    return replace(sentence, start=words[0].start, end=words[-1].end, words=words)


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
    timed = _spread_words(words, start, end, joiner)
    return TimedSegment(start, end, text, timed, segment.confidence)


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

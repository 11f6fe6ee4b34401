"""Text on its way from transcription to alignment, batch by batch, and back into order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from queue import SimpleQueue

from worker.values import Alignment, TextSegment, TimedSegment, Transcription


class Handover:
    """Parts of a transcription, put by one thread and taken by another."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Transcription | None] = SimpleQueue()

    def put(self, part: Transcription) -> None:
        """Hand on some segments."""
        self._queue.put(part)

    def close(self) -> None:
        """Hand on nothing more."""
        self._queue.put(None)

    def __iter__(self) -> Iterator[Transcription]:
        """Give what has gathered since the last time, in order, until it is closed."""
        while (part := self._queue.get()) is not None:
            segments = list(part.segments)
            is_closed = False
            while not is_closed and not self._queue.empty():
                more = self._queue.get()
                is_closed = more is None
                segments += more.segments if more is not None else ()
            yield replace(part, segments=tuple(sorted(segments, key=_time)))
            if is_closed:
                return


def in_order(parts: Sequence[tuple[Transcription, Alignment]]) -> Alignment:
    """Join the alignments of a transcription's parts, in the order of its segments.

    Args:
        parts: Each with its alignment, which holds every letter of it.
    """
    sentences: list[tuple[tuple[float, float], list[TimedSegment]]] = []
    warnings: dict[object, None] = {}
    for transcription, alignment in parts:
        warnings |= dict.fromkeys(alignment.warnings)
        rest = iter(alignment.segments)
        for segment in transcription.segments:
            sentences.append((_time(segment), _of(segment, rest)))
        if sentences:
            sentences[-1][1].extend(rest)
    ordered = sorted(sentences, key=lambda item: item[0])
    segments = tuple(sentence for _, found in ordered for sentence in found)
    return Alignment(segments, tuple(warnings))  # type: ignore[arg-type]


def _of(segment: TextSegment, sentences: Iterator[TimedSegment]) -> list[TimedSegment]:
    """Take a segment's own sentences: those that hold its letters."""
    left = _letters(segment.text)
    found: list[TimedSegment] = []
    while left > 0 and (sentence := next(sentences, None)) is not None:
        found.append(sentence)
        left -= _letters(sentence.text)
    return found


def _letters(text: str) -> int:
    return len("".join(text.split()))


def _time(segment: TextSegment) -> tuple[float, float]:
    return segment.start, segment.end

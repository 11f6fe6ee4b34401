"""What holds for every transcript that is not of `FIDELITY=stock`, whatever was said."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from bucketscribe_contract import Flag, Interval, Segment, Transcript, Word
from worker.types import letters

SHORTEST_S = 3.0


def broken_rules(document: Transcript, offset_s: float = 0.0) -> list[str]:
    """Return a line for each rule that the document breaks, and where.

    Args:
        document: As a reader has it.
        offset_s: Where in the recording the clip begins that it is of.
    """
    return [*_of_numbers(document), *_of_the_whole(document, offset_s), *_of_doubts(document)] + [
        f"segment {segment.id}: {text}"
        for segment in document.segments
        for text in _of_segment(segment)
    ]


def _of_numbers(document: Transcript) -> Iterator[str]:
    written = document.model_dump(mode="json")
    try:
        json.dumps(written, allow_nan=False)
    except ValueError:
        yield "a number is not finite"
        return
    if Transcript.model_validate(written) != document:
        yield "another document is read than was written"


def _of_the_whole(document: Transcript, offset_s: float) -> Iterator[str]:
    segments, end_s = document.segments, offset_s + document.duration_seconds + 0.001
    words = [word for segment in segments for word in segment.words]
    if [segment.id for segment in segments] != list(range(len(segments))):
        yield "ids do not count from 0"
    if {who for who in (s.speaker for s in (*segments, *words)) if who} != {*document.speakers}:
        yield "speakers are not those of the segments and words"
    if tuple(sorted(set(document.speakers))) != document.speakers:
        yield "speakers are out of order"
    for kind, times in (
        ("segments", [(segment.start, segment.end) for segment in segments]),
        ("words", [_time(word) for word in words]),
        ("uncovered", [(part.start, part.end) for part in document.uncovered]),
        ("dropped", [(part.start, part.end) for part in document.dropped]),
    ):
        yield from (f"{kind}: {a} after {b}" for a, b in times if a > b)
        yield from (f"{kind}: {b} before {a}" for a, b in pairwise(times) if a[0] > b[0])
        yield from (f"{kind}: {a} to {b} is outside" for a, b in times if a < offset_s or b > end_s)


def _of_segment(segment: Segment) -> Iterator[str]:
    said = "".join(word.word for word in segment.words)
    if segment.words and letters(said) != letters(segment.text):
        yield "its words do not have its text"
    if {word.speaker for word in segment.words} - {segment.speaker, None}:
        yield "two speakers"
    if any(
        _time(word)[0] < segment.start or _time(word)[1] > segment.end for word in segment.words
    ):
        yield "a word is outside"
    if not letters(segment.text):
        yield "no text"
    if "\ufffd" in segment.text:
        yield "a broken character"


def _of_doubts(document: Transcript) -> Iterator[str]:
    flags = [part.flags for part in (*document.segments, *document.dropped)]
    if any(list(given) != [flag for flag in Flag if flag in given] for given in flags):
        yield "flags are out of order, or twice"
    if not all(part.flags for part in document.dropped):
        yield "what is dropped has no flags"
    if document.dropped and any(segment.flags for segment in document.segments):
        yield "some of what is flagged is dropped, some is not"
    codes = {warning.partition(":")[0] for warning in document.warnings}
    if ("FLAGGED" in codes) != any(flags):
        yield "FLAGGED does not say what is flagged"
    if ("UNCOVERED_SPEECH" in codes) != bool(document.uncovered):
        yield "UNCOVERED_SPEECH does not say what is uncovered"
    for part in document.uncovered:
        if round(part.end - part.start, 3) < SHORTEST_S:
            yield f"{part.start} to {part.end}: too short to be listed as uncovered"
        if any(_overlap(part, segment) for segment in document.segments):
            yield f"{part.start} to {part.end}: a word covers what is listed as uncovered"


def _overlap(part: Interval, segment: Segment) -> bool:
    """Whether one of the segment's words, or itself without any, covers some of the interval."""
    said = [_time(word) for word in segment.words] or [(segment.start, segment.end)]
    return any(max(a, part.start) < min(b, part.end) for a, b in said)


def _time(word: Word) -> tuple[float, float]:
    assert word.start is not None
    assert word.end is not None
    return word.start, word.end

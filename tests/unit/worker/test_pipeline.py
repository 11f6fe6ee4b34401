"""The queue of segments: parts come in any order, the alignment is in the transcription's."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bucketscribe_contract import WarningCode
from worker.pipeline import SegmentQueue, in_order
from worker.types import Alignment, TextSegment, TimedSegment, Transcription


def aligned(part: Transcription) -> Alignment:
    """Align a part, one segment after the other: a sentence a word, all at odd times."""
    found = [TimedSegment(-1.0, -1.0, word) for s in part.segments for word in s.text.split()]
    warned = any("!" in segment.text for segment in part.segments)
    return Alignment(tuple(found), (WarningCode.ALIGNMENT_FAILED,) if warned else ())


@given(
    texts=st.lists(st.text("ab! \t\u2003", max_size=9)), chance=st.randoms(use_true_random=False)
)
def test_parts_in_any_order_make_the_whole(texts: list[str], chance: random.Random) -> None:
    segments = [TextSegment(i, i + 1, text) for i, text in enumerate(texts)]
    whole = Transcription(tuple(segments), "en", 0.5)
    mixed = chance.sample(segments, len(segments))
    cuts = sorted({0, len(mixed), *(chance.randrange(len(mixed) + 1) for _ in range(3))})
    parts = [Transcription(tuple(mixed[a:b]), "en", 0.5) for a, b in pairwise(cuts)]
    joined = in_order([(part, aligned(part)) for part in parts])
    assert joined == aligned(whole)


def test_sentences_beyond_the_last_segments_letters_are_kept() -> None:
    part = Transcription((TextSegment(0, 1, "a"),), "en", None)
    found = (TimedSegment(0, 1, "a"), TimedSegment(1, 2, "more"))
    assert in_order([(part, Alignment(found))]).segments == found


def test_segments_since_the_last_time_come_together_in_order() -> None:
    queue = SegmentQueue()
    for start in (5, 1, 3):
        queue.put(Transcription((TextSegment(start, start + 1, "a"),), "en", None))
    parts = iter(queue)
    assert [segment.start for segment in next(parts).segments] == [1, 3, 5]
    queue.put(Transcription((), "en", None))
    queue.close()
    assert len(list(parts)) == 1

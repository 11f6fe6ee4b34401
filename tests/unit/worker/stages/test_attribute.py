"""Who spoke: as whisperx decides it, with every word in its place."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_contract import WordTiming
from worker.types import Alignment, Diarization, SpeakerTurn, TimedSegment, TimedWord

# few moments, so that many are equal
Moment = st.integers(0, 12).map(lambda tenths: tenths / 10)
Span = st.tuples(Moment, Moment).map(sorted)
SPEAKERS = ("SPEAKER_00", "SPEAKER_01", "SPEAKER_02")


@settings(deadline=None)  # the first one imports
@given(
    st.lists(st.tuples(Span, st.sampled_from(SPEAKERS)), max_size=6),
    st.lists(st.tuples(Span, st.lists(Span, max_size=4)), max_size=4),
)
def test_speakers_are_those_of_whisperx(turns: Any, segments: Any) -> None:
    import pandas as pd
    import whisperx

    from worker.stages.attribute import attribute

    plain: dict[str, Any] = {
        "segments": [
            {"start": a, "end": b, "words": [{"start": c, "end": d} for c, d in words]}
            for (a, b), words in segments
        ]
    }
    frame = pd.DataFrame(
        [(start, end, who) for (start, end), who in turns], columns=["start", "end", "speaker"]
    )
    wanted = whisperx.assign_word_speakers(frame, plain)["segments"]
    timed = tuple(
        TimedSegment(a, b, "", tuple(TimedWord("", c, d, None) for c, d in words))
        for (a, b), words in segments
    )
    told = Diarization(tuple(SpeakerTurn(start, end, who) for (start, end), who in turns))
    found = attribute(Alignment(timed), told, 0.0, 1.2)
    assert [s.speaker for s in found] == [s.get("speaker") for s in wanted]
    assert [[w.speaker for w in s.words] for s in found] == [
        [w.get("speaker") for w in s["words"]] for s in wanted
    ]


def test_whoever_overlaps_a_word_longest_spoke_it_and_nothing_ends_after_the_recording() -> None:
    from worker.stages.attribute import attribute

    words = (
        TimedWord("a", 0.0, 1.0, 0.5),
        TimedWord("b", 1.0, 2.02, None, WordTiming.INTERPOLATED),
    )
    alignment = Alignment((TimedSegment(0.0, 2.016, "a b", words),))
    turns = (SpeakerTurn(0.0, 0.9, "SPEAKER_01"), SpeakerTurn(0.8, 1.7, "SPEAKER_00"))
    (segment,) = attribute(alignment, Diarization(turns), offset_s=10.0, duration_s=2.0)
    assert segment.speaker in ("SPEAKER_00", "SPEAKER_01")
    assert [word.speaker for word in segment.words] == ["SPEAKER_01", "SPEAKER_00"]
    assert [word.timing for word in segment.words] == ["aligned", "interpolated"]
    assert (segment.start, segment.end, segment.words[1].end) == (10.0, 12.0, 12.0)

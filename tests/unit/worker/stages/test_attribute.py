"""Who spoke: as whisperx decides it, with every word in its place."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bucketscribe_contract import WordTiming
from worker.types import Alignment, Diarization, SpeakerTurn, TimedSegment, TimedWord, letters

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

    from worker.stages.attribute import attribute_as_stock

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
    found = attribute_as_stock(Alignment(timed), told, 0.0, 1.2)
    assert [s.speaker for s in found] == [s.get("speaker") for s in wanted]
    assert [[w.speaker for w in s.words] for s in found] == [
        [w.get("speaker") for w in s["words"]] for s in wanted
    ]


def test_whoever_overlaps_a_word_longest_spoke_it_and_nothing_ends_after_the_recording() -> None:
    from worker.stages.attribute import attribute_as_stock

    words = (
        TimedWord("a", 0.0, 1.0, 0.5),
        TimedWord("b", 1.0, 2.02, None, WordTiming.INTERPOLATED),
    )
    alignment = Alignment((TimedSegment(0.0, 2.016, "a b", words),))
    turns = (SpeakerTurn(0.0, 0.9, "SPEAKER_01"), SpeakerTurn(0.8, 1.7, "SPEAKER_00"))
    (segment,) = attribute_as_stock(alignment, Diarization(turns), offset_s=10.0, duration_s=2.0)
    assert segment.speaker in ("SPEAKER_00", "SPEAKER_01")
    assert [word.speaker for word in segment.words] == ["SPEAKER_01", "SPEAKER_00"]
    assert [word.timing for word in segment.words] == ["aligned", "interpolated"]
    assert (segment.start, segment.end, segment.words[1].end) == (10.0, 12.0, 12.0)


def said(*words: tuple[str, float, float]) -> TimedSegment:
    timed = tuple(TimedWord(text, start, end, 0.5) for text, start, end in words)
    return TimedSegment(timed[0].start, timed[-1].end, " ".join(w.word for w in timed), timed)


def spoken_by(*turns: tuple[str, float, float]) -> Diarization:
    told = tuple(SpeakerTurn(start, end, f"SPEAKER_{who}") for who, start, end in turns)
    return Diarization(told, told)


def attributed(sentence: TimedSegment, told: Diarization) -> list[tuple[str | None, str]]:
    from worker.stages.attribute import attribute

    return [(s.speaker, s.text) for s in attribute(Alignment((sentence,)), told, 0.0, 60.0)]


def test_sentence_is_cut_where_its_speaker_changes_and_words_of_nobody_go_to_the_nearest() -> None:
    sentence = said(("Did", 0, 1), ("you?", 1, 2), ("Yes,", 3, 4), ("I", 4, 5), ("did.", 5.5, 6))
    told = spoken_by(("00", 0, 2.1), ("01", 2.9, 5.1))
    assert attributed(sentence, told) == [
        ("SPEAKER_00", "Did you?"),
        ("SPEAKER_01", "Yes, I did."),
    ]
    far = spoken_by(("00", 20, 21), ("01", 8, 9))
    assert attributed(sentence, far) == [("SPEAKER_01", "Did you? Yes, I did.")]
    assert attributed(sentence, Diarization()) == [(None, "Did you? Yes, I did.")]
    without_words = TimedSegment(0.0, 6.0, "Did you? Yes.")
    assert attributed(without_words, told) == [("SPEAKER_01", "Did you? Yes.")]


def test_single_word_is_somebody_elses_only_between_pauses() -> None:
    told = spoken_by(("00", 0, 2), ("01", 2, 3), ("00", 3, 5))
    close = said(("And", 0, 1), ("so", 1, 2), ("we", 2.1, 2.8), ("went", 3, 4), ("on.", 4, 5))
    assert attributed(close, told) == [("SPEAKER_00", "And so we went on.")]
    apart = said(("And", 0, 1), ("so", 1, 1.9), ("yeah", 2.3, 2.6), ("went", 3, 4), ("on.", 4, 5))
    assert [text for _, text in attributed(apart, told)] == ["And so", "yeah", "went on."]


def test_words_while_two_speak_are_marked() -> None:
    from worker.stages.attribute import attribute

    turns = (SpeakerTurn(0, 3, "SPEAKER_00"), SpeakerTurn(1.4, 2, "SPEAKER_01"))
    told = Diarization(turns, turns[:1])
    sentence = said(("a", 0, 1), ("b", 1, 2), ("c", 2, 3))
    (segment,) = attribute(Alignment((sentence,)), told, 0.0, 60.0)
    assert [word.overlap for word in segment.words] == [False, True, False]


@settings(deadline=None)
@given(
    st.lists(st.tuples(Span, st.sampled_from(SPEAKERS)), max_size=6),
    st.lists(st.lists(st.tuples(Span, st.text("aé。 1", min_size=1)), max_size=5), max_size=4),
    st.sampled_from(["", " "]),
)
def test_all_text_is_kept_in_order_and_each_segment_has_one_speaker(
    turns: Any, sentences: Any, joiner: str
) -> None:
    from worker.stages.attribute import attribute

    told = tuple(SpeakerTurn(start, end, who) for (start, end), who in turns)
    timed = []
    for words in sentences:
        spoken = tuple(TimedWord(w.strip(), a, b, None) for (a, b), w in sorted(words) if w.strip())
        text = joiner.join(word.word for word in spoken)
        ends = [word.end for word in spoken]
        if text:
            timed.append(TimedSegment(spoken[0].start, max(ends), text, spoken))
    found = attribute(Alignment(tuple(timed)), Diarization(told, told), 0.0, 1.2)
    texts = ["".join(letters(text.text) for text in some) for some in (timed, found)]
    assert texts[0] == texts[1]
    assert [w.word for s in timed for w in s.words] == [w.word for s in found for w in s.words]
    for segment in found:
        assert {word.speaker for word in segment.words} == {segment.speaker}
        assert letters(segment.text) == letters("".join(word.word for word in segment.words))
        assert segment.start <= segment.end
    assert [segment.id for segment in found] == list(range(len(found)))

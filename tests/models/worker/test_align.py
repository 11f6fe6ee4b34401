"""The stage: all text in order, by parts or at once, alone or together, until it is cancelled."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucketscribe_contract import WarningCode, WordTiming
from tests.fakes.alignment import stock_sentences
from tests.recordings import short_reference, short_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.alignment.acoustic import Aligner
from worker.errors import JobCancelled
from worker.stages.align import align as stage
from worker.types import (
    Alignment,
    Confidence,
    TextSegment,
    TimedSegment,
    TimedWord,
    Transcription,
    Waveform,
    letters,
)

SPEECH = Waveform(short_speech())
SEGMENTS = (
    TextSegment(0.0, 2.4, " Hello there. How are you? I am 10 minutes late."),
    TextSegment(2.4, 2.41, " Too much for a moment."),
    TextSegment(2.5, 4.0, " The ship sails, Mr. Smith."),
    TextSegment(3.0, 5.5, " Ten minutes past noon."),
    TextSegment(90.0, 91.0, " After the end."),
)


@pytest.fixture(scope="module")
def aligner(aligners: list[Aligner]) -> Aligner:
    """The demo's."""
    return aligners[0]


def align(aligner: Aligner | None, *segments: TextSegment, **more: Any) -> Alignment:
    text = Transcription(segments, "en", None)
    return stage(SPEECH, text, aligner, StageContext(**more), is_stock=True)


def heard(start: float, end: float, text: str) -> TextSegment:
    """Return a segment whose words attention gave equal times."""
    said = text.split()
    times = np.linspace(start, end, len(said) + 1).tolist()
    timed = zip(said, times, times[1:], strict=False)
    words = tuple(TimedWord(*word, 0.5, WordTiming.ATTENTION) for word in timed)
    return TextSegment(start, end, text, words=words)


def improved(aligner: Aligner | None, *segments: TextSegment, language: str = "en") -> Alignment:
    return stage(SPEECH, Transcription(segments, language, None), aligner, StageContext())


def test_times_and_scores_are_those_of_whisperx(aligner: Aligner) -> None:
    for segment in (SEGMENTS[0], SEGMENTS[2], SEGMENTS[3]):
        found = align(aligner, segment)
        expected = stock_sentences(SPEECH, segment, aligner)
        assert found.warnings == ()
        assert [(s.start, s.end, s.text) for s in found.segments] == [
            (s.start, s.end, s.text.strip()) for s in expected
        ]
        assert [(w.word, w.start, w.end, w.score) for s in found.segments for w in s.words] == [
            (w.word, w.start, w.end, w.score) for s in expected for w in s.words
        ]


def test_what_whisperx_gives_up_is_interpolated_and_said_so(
    aligner: Aligner, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = align(aligner, *SEGMENTS)
    assert found.warnings == (WarningCode.ALIGNMENT_FAILED,)
    assert "2 of 5 segments" in caplog.text
    assert "moment" not in caplog.text
    said = " ".join(segment.text for segment in found.segments)
    assert said == " ".join(segment.text.strip() for segment in SEGMENTS)
    interpolated = [s for s in found.segments if all(w.score is None for w in s.words)]
    assert [s.text for s in interpolated] == ["Too much for a moment.", "After the end."]


@pytest.mark.parametrize(("before_end_s", "is_heard"), [(0.0, False), (0.01, True)])
def test_a_segment_that_begins_at_the_end_is_not_heard(
    aligner: Aligner, before_end_s: float, is_heard: bool
) -> None:
    segment = TextSegment(SPEECH.duration_s - before_end_s, 91.0, "a")
    assert (align(aligner, segment).warnings == ()) is is_heard


ODD_TEXTS = [
    "1234", "3. 4. 5.", " It costs $5,000.50! Or 7% less?", "привет мир. да", "你好，世界。",
    "a", ".", " … ", "Hello.\n\nWorld", "x" * 700, "Mr. Smith went to Washington D.C. He left.",
    "\u200b", "e\u0301tude | <pad> <unk> [pad]", "A. 7. B. 8. C.",
]  # fmt: skip


@pytest.mark.parametrize("times", [(0.0, 5.0), (2.0, 2.01), (5.4, 5.9), (6.0, 7.0)])
def test_odd_text_at_odd_times_is_kept(aligner: Aligner, times: tuple[float, float]) -> None:
    assert_kept(aligner, *(TextSegment(*times, text) for text in ODD_TEXTS))


@given(
    text=st.text(max_size=80)
    | st.lists(st.sampled_from(["Well.", "5", "no", "Dr.", "?", "$3.", "são"])).map(" ".join),
    start=st.floats(0, 7),
    length=st.floats(0.01, 5),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_no_text_is_ever_lost(aligner: Aligner, text: str, start: float, length: float) -> None:
    assert_kept(aligner, TextSegment(start, start + length, text))


def assert_kept(aligner: Aligner, *segments: TextSegment) -> None:
    """All letters of segments are in the sentences and in the words, with times."""
    alignment = align(aligner, *segments)
    wanted = letters("".join(s.text for s in segments))
    words = [word for segment in alignment.segments for word in segment.words]
    assert letters("".join(s.text for s in alignment.segments)) == wanted
    assert letters("".join(word.word for word in words)) == wanted
    for timed in [*alignment.segments, *words]:
        assert math.isfinite(timed.start)
        assert math.isfinite(timed.end)
        assert timed.start <= timed.end


def test_without_words_of_attention_segments_stay_and_it_is_said() -> None:
    found = align(None, TextSegment(0, 2, " Hallo Welt."))
    assert found.warnings == (WarningCode.ALIGNMENT_UNAVAILABLE,)
    assert found.segments == (TimedSegment(0, 2, "Hallo Welt."),)
    assert align(None) == Alignment(())


def test_without_aligner_sentences_have_attentions_words() -> None:
    confidence = Confidence(-0.5)
    segment = replace(heard(1.0, 2.0, " Guten Tag. Wie geht's?"), confidence=confidence)
    plain = TextSegment(3.0, 4.0, " Gut.")
    found = improved(None, segment, plain, language="de")
    assert found.warnings == ("ALIGNMENT_UNAVAILABLE: words timed by attention",)
    assert found.segments == (
        TimedSegment(1.0, 1.5, "Guten Tag.", segment.words[:2], confidence),
        TimedSegment(1.5, 2.0, "Wie geht's?", segment.words[2:], confidence),
        TimedSegment(3.0, 4.0, "Gut."),
    )


def test_a_sentence_may_end_within_a_word_of_attention() -> None:
    found = improved(None, heard(1.0, 3.0, "你好。世界！"), language="zh")
    assert [(s.text, s.start, s.end) for s in found.segments] == [
        ("你好。", 1.0, 2.0),
        ("世界！", 2.0, 3.0),
    ]


def test_words_that_do_not_hold_the_text_are_not_used() -> None:
    segment = replace(heard(1.0, 2.0, "Hallo Welt."), text="Hallo, Welt.")
    assert improved(None, segment).segments == (TimedSegment(1.0, 2.0, "Hallo, Welt."),)


def test_numerals_lie_between_their_neighbours(aligner: Aligner) -> None:
    segment = heard(0.0, 2.6, " The train leaves in 10 $5 minutes.")
    (sentence,) = improved(aligner, segment).segments
    timings = {word.word: word.timing for word in sentence.words}
    assert timings.pop("10") is timings.pop("$5") is WordTiming.ATTENTION
    assert set(timings.values()) == {WordTiming.ALIGNED}
    bounds = [time for word in sentence.words for time in (word.start, word.end)]
    assert bounds == sorted(bounds)
    assert all(word.start < word.end for word in sentence.words)
    stock = align(aligner, segment)
    assert [w for w in sentence.words if w.timing is WordTiming.ALIGNED] == [
        w for s in stock.segments for w in s.words if w.word not in ("10", "$5")
    ]


@given(
    said=st.lists(st.sampled_from(["Well.", "5", "no", "%", "?", "$3.", "١٢", "10,"]), min_size=1),
    start=st.floats(0, 3),
    length=st.floats(0.5, 2.4),
    kind=st.integers(0, 2),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_with_numerals_no_text_is_lost_and_no_word_is_without_time(
    aligners: list[Aligner], said: list[str], start: float, length: float, kind: int
) -> None:
    segment = heard(start, start + length, " ".join(said))
    alignment = improved(aligners[kind], segment)
    words = [word for sentence in alignment.segments for word in sentence.words]
    assert [word.word for word in words] == said
    assert " ".join(s.text for s in alignment.segments) == " ".join(said)
    assert all(w.start < w.end for w in words if w.timing is WordTiming.ATTENTION)
    if not alignment.warnings:
        assert [w.start for w in words] == sorted(w.start for w in words)


@pytest.mark.parametrize(
    ("kind", "text", "sentences"),
    [
        (3, "你好。世界！", ["你好。", "世界！"]),
        (3, "「はい。」と", ["「はい。」", "と"]),
        (2, "नमस्ते। ठीक हूँ।", ["नमस्ते।", "ठीक हूँ।"]),
        (2, "كيف حالك؟ شكرا.", ["كيف حالك؟", "شكرا."]),
        (2, "السلام علیکم۔شکریہ۔", ["السلام علیکم۔", "شکریہ۔"]),
    ],
)
def test_an_aligned_text_has_its_own_sentences(
    aligners: list[Aligner], kind: int, text: str, sentences: list[str]
) -> None:
    found = improved(aligners[kind], TextSegment(0.0, 5.0, text))
    assert found.warnings == ()
    assert [sentence.text for sentence in found.segments] == sentences
    for sentence in found.segments:
        assert letters("".join(w.word for w in sentence.words)) == letters(sentence.text)


def test_sentences_begin_where_they_are_spoken(aligner: Aligner) -> None:
    spoken = short_reference().utterances
    whole = TextSegment(0.0, SPEECH.duration_s, " ".join(u.text for u in spoken))
    found = align(aligner, whole)
    assert [s.start for s in found.segments] == pytest.approx([u.start for u in spoken], abs=0.15)
    assert all(word.score is not None for s in found.segments for word in s.words)


def test_parts_and_lanes_give_the_same(aligner: Aligner) -> None:
    shares: list[float] = []
    whole = align(aligner, *SEGMENTS, progress=shares.append)
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    first, second = align(aligner, *SEGMENTS[:2]), align(aligner, *SEGMENTS[2:])
    assert first.segments + second.segments == whole.segments
    assert align(aligner, *SEGMENTS, lanes=2) == whole


def test_a_batch_gives_the_same_but_for_rounding(aligner: Aligner) -> None:
    sizes: list[int] = []
    note = aligner.model.register_forward_pre_hook
    with note(lambda _, arguments: sizes.append(len(arguments[0]))):
        together = align(aligner, *SEGMENTS, batch_size=4)
    assert sizes == [3, 1]
    alone = align(aligner, *SEGMENTS)
    assert [s.text for s in together.segments] == [s.text for s in alone.segments]
    for one, other in zip(alone.segments, together.segments, strict=True):
        assert (other.start, other.end) == pytest.approx((one.start, one.end), abs=0.001)
        for word, twin in zip(one.words, other.words, strict=True):
            assert twin.start == pytest.approx(word.start, abs=0.001)
            assert twin.score == pytest.approx(word.score, abs=0.0011)


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_cancelled_job_starts_no_further_forward(aligner: Aligner, lanes: int) -> None:
    token, begun = CancelToken(), []

    def cancel(*_: Any) -> None:
        begun.append(1)
        token.cancel()

    with aligner.model.register_forward_pre_hook(cancel), pytest.raises(JobCancelled):
        align(aligner, *SEGMENTS * 5, cancel=token, lanes=lanes)
    assert len(begun) <= 2 * lanes

"""The stage: all text in order, by parts or at once, alone or together, until it is cancelled."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucketscribe_contract import WarningCode
from tests.fakes.alignment import Aligners, stock_sentences
from tests.recordings import short_reference, short_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.alignment.acoustic import Aligner
from worker.errors import JobCancelled
from worker.stages.align import align as stage
from worker.types import Alignment, TextSegment, TimedSegment, Transcription, Waveform, letters

SPEECH = Waveform(short_speech())
SEGMENTS = (
    TextSegment(0.0, 2.4, " Hello there. How are you? I am 10 minutes late.", -0.1),
    TextSegment(2.4, 2.41, " Too much for a moment.", -0.1),
    TextSegment(2.5, 4.0, " The ship sails, Mr. Smith.", -0.1),
    TextSegment(3.0, 5.5, " Ten minutes past noon.", -0.1),
    TextSegment(90.0, 91.0, " After the end.", -0.1),
)


@pytest.fixture(scope="module")
def aligner(aligners: Aligners) -> Aligner:
    """The demo's."""
    return aligners.demo


def align(aligner: Aligner | None, *segments: TextSegment, **more: Any) -> Alignment:
    """Run the stage."""
    text = Transcription(segments, "en", None)
    return stage(SPEECH, text, aligner, StageContext(**more))


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


@pytest.mark.parametrize("start", [SPEECH.duration_s, 90.0])
def test_a_segment_that_begins_at_the_end_is_not_heard(aligner: Aligner, start: float) -> None:
    assert align(aligner, TextSegment(start, 91.0, "a", -0.1)).warnings != ()
    assert align(aligner, TextSegment(SPEECH.duration_s - 0.01, 91.0, "a", -0.1)).warnings == ()


ODD_TEXTS = [
    "1234",
    "3. 4. 5.",
    " It costs $5,000.50! Or 7% less?",
    "привет мир. да",
    "你好，世界。",
    "a",
    ".",
    " … ",
    "Hello.\n\nWorld",
    "x" * 700,
    "Mr. Smith went to Washington D.C. He left.",
    "\u200b",
    "e\u0301tude | <pad> <unk> [pad]",
    "A. 7. B. 8. C.",
]


@pytest.mark.parametrize("text", ODD_TEXTS)
@pytest.mark.parametrize("times", [(0.0, 5.0), (2.0, 2.01), (5.4, 5.9), (6.0, 7.0)])
def test_odd_text_at_odd_times_is_kept(
    aligner: Aligner, text: str, times: tuple[float, float]
) -> None:
    assert_kept(aligner, text, times)


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
    assert_kept(aligner, text, (start, start + length))


def assert_kept(aligner: Aligner, text: str, times: tuple[float, float]) -> None:
    """Align one segment: all its letters are in the sentences and in the words, with times."""
    alignment = align(aligner, TextSegment(*times, text, -0.1))
    assert letters("".join(s.text for s in alignment.segments)) == letters(text)
    words = [word for segment in alignment.segments for word in segment.words]
    assert letters("".join(word.word for word in words)) == letters(text)
    for timed in [*alignment.segments, *words]:
        assert math.isfinite(timed.start)
        assert math.isfinite(timed.end)
        assert timed.start <= timed.end


def test_a_language_without_aligner_keeps_segments_and_says_so() -> None:
    found = align(None, TextSegment(0, 2, " Hallo Welt.", -0.1))
    assert found.warnings == (WarningCode.ALIGNMENT_UNAVAILABLE,)
    assert found.segments == (TimedSegment(0, 2, "Hallo Welt."),)


def test_no_text_is_no_alignment(aligner: Aligner) -> None:
    assert align(aligner) == Alignment(())


def test_sentences_begin_where_they_are_spoken(aligner: Aligner) -> None:
    spoken = short_reference().utterances
    whole = TextSegment(0.0, SPEECH.duration_s, " ".join(u.text for u in spoken), -0.1)
    found = align(aligner, whole)
    assert [s.start for s in found.segments] == pytest.approx([u.start for u in spoken], abs=0.15)
    assert all(word.score is not None for s in found.segments for word in s.words)


@pytest.mark.parametrize("cut", range(1, len(SEGMENTS)))
def test_parts_of_a_transcription_give_the_parts_of_its_alignment(
    aligner: Aligner, cut: int
) -> None:
    whole = align(aligner, *SEGMENTS)
    parts = align(aligner, *SEGMENTS[:cut]), align(aligner, *SEGMENTS[cut:])
    assert parts[0].segments + parts[1].segments == whole.segments


def test_lanes_give_the_same(aligner: Aligner) -> None:
    assert align(aligner, *SEGMENTS, lanes=2) == align(aligner, *SEGMENTS)


def test_a_batch_gives_the_same_but_for_rounding(aligner: Aligner) -> None:
    sizes: list[int] = []
    with hooked(aligner, lambda _, arguments: sizes.append(len(arguments[0]))):
        together = align(aligner, *SEGMENTS, batch_size=4)
    assert sizes == [3, 1]
    alone = align(aligner, *SEGMENTS)
    for one, other in zip(alone.segments, together.segments, strict=True):
        assert (other.text, other.start, other.end) == (
            one.text,
            pytest.approx(one.start, abs=0.001),
            pytest.approx(one.end, abs=0.001),
        )
        for word, twin in zip(one.words, other.words, strict=True):
            assert twin.start == pytest.approx(word.start, abs=0.001)
            assert twin.score == pytest.approx(word.score, abs=0.0011)


def hooked(aligner: Aligner, hook: Callable[..., None]) -> Any:
    """Call the hook before every forward pass."""
    from contextlib import contextmanager

    @contextmanager
    def hooking() -> Any:
        handle = aligner.model.register_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    return hooking()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_cancelled_job_starts_no_further_forward(aligner: Aligner, lanes: int) -> None:
    token, begun = CancelToken(), []

    def cancel(*_: Any) -> None:
        begun.append(1)
        token.cancel()

    with hooked(aligner, cancel), pytest.raises(JobCancelled):
        align(aligner, *SEGMENTS * 5, cancel=token, lanes=lanes)
    assert len(begun) <= 2 * lanes


def test_progress_goes_up_to_the_end(aligner: Aligner) -> None:
    shares: list[float] = []
    align(aligner, *SEGMENTS, progress=shares.append)
    assert shares == sorted(shares)
    assert len(shares) == len(SEGMENTS)
    assert shares[-1] == 1.0


def test_the_recording_is_not_copied(aligner: Aligner) -> None:
    recording = Waveform(short_speech())
    text = Transcription(SEGMENTS, "en", None)
    stage(recording, text, aligner, StageContext())
    assert "float32" not in vars(recording)

"""Compose: all text is in the document or listed, and what is missing is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bucketscribe_contract import (
    Flag,
    Interval,
    JobInput,
    Segment,
    Transcript,
    WarningCode,
    Word,
    WordTiming,
)
from tests.transcript_rules import broken_rules
from worker.stages.compose import Findings, compose, uncovered
from worker.stages.deliver import encode_transcript
from worker.types import Alignment, Diarization, SpeechSpan, Transcription, Waveform

PROFILE: Any = SimpleNamespace(
    vad=SimpleNamespace(name="v"), align={}, diarization=SimpleNamespace(name="d")
)
MODELS: Any = SimpleNamespace(folder=SimpleNamespace(profile=PROFILE, whisper_name="w"))
# tenths of a second up to a minute, few enough that pauses and holes meet their limits exactly
Times = st.lists(st.integers(0, 600), max_size=12, unique=True).map(sorted)


def waveform(seconds: float = 60.0, offset_s: float = 0.0) -> Waveform:
    return Waveform(np.zeros(round(seconds * 16_000), np.int16), offset_s)


def span(*regions: tuple[float, float]) -> SpeechSpan:
    return SpeechSpan(regions[0][0], regions[-1][1], regions)


def segment(
    *words: tuple[float, float], flags: tuple[Flag, ...] = (), text: str = "", offset_s: float = 0.0
) -> Segment:
    """One segment with these words, "a" each; without text, one with words."""
    times = [(round(start + offset_s, 3), round(end + offset_s, 3)) for start, end in words]
    said = tuple(
        Word(
            word="a",
            start=start,
            end=end,
            score=0.5,
            speaker="SPEAKER_00",
            timing=WordTiming.ALIGNED,
        )
        for start, end in times
    )
    return Segment(
        id=0,
        start=times[0][0],
        end=times[-1][1],
        text=text or "a" * len(said),
        speaker="SPEAKER_00",
        words=() if text else said,
        flags=flags,
    )


@st.composite
def segments(draw: st.DrawFn) -> tuple[Segment, ...]:
    """Segments in order, some flagged, some without words."""
    moments = [tenths / 10 for tenths in draw(Times)]
    spans = list(zip(moments[::2], moments[1::2], strict=False))
    found = []
    while spans:
        count = draw(st.integers(1, len(spans)))
        chosen = draw(st.sets(st.sampled_from(Flag)))
        flags = tuple(flag for flag in Flag if flag in chosen)
        text = draw(st.sampled_from(["", "b c"]))
        said = segment(*spans[:count], flags=flags, text=text)
        found.append(said.model_copy(update={"id": len(found)}))
        spans = spans[count:]
    return tuple(found)


def composed(
    said: tuple[Segment, ...], *spans: SpeechSpan, heard: Waveform | None = None, **options: Any
) -> Transcript:
    found = Transcription((), "en", None), Alignment(()), Diarization()
    findings = Findings(*found, warnings=(), speech=spans)
    job = JobInput(audio_base64="AA==", **options)
    return compose(job, MODELS, findings, said, heard or waveform(), 1.0)


@given(segments(), Times, st.booleans())
def test_all_text_is_there_or_listed_and_no_rule_is_broken(
    said: tuple[Segment, ...], heard: list[int], drop_flagged: bool
) -> None:
    moments = [tenths / 10 for tenths in heard]
    regions = tuple(zip(moments[::2], moments[1::2], strict=False))
    document = composed(said, *map(span, regions), drop_flagged=drop_flagged)
    assert broken_rules(document) == []
    texts = [(part.start, part.text) for part in (*document.segments, *document.dropped)]
    assert sorted(texts) == [(part.start, part.text) for part in said]
    assert bool(document.dropped) == (drop_flagged and any(part.flags for part in said))
    assert Transcript.model_validate_json(encode_transcript(document)) == document


@example((), [0, 30, 100, 129], 0.0)
@example((), [0, 20, 24, 40, 100, 120, 125, 140], 0.0)
@given(segments(), Times, st.integers(0, 50).map(float))
def test_uncovered_is_what_counting_tenths_finds(
    said: tuple[Segment, ...], heard: list[int], offset_s: float
) -> None:
    """Speech is a run of tenths without a pause of 5; uncovered, of 30 of it without a word."""
    speech, words = np.zeros(600, bool), np.zeros(600, bool)
    for start, end in zip(heard[::2], heard[1::2], strict=False):
        speech[start:end] = True
    for part in said:
        for time in part.words or (part,):
            assert time.start is not None
            assert time.end is not None
            words[round(time.start * 10) : round(time.end * 10)] = True
    for start, end in runs(~speech):
        speech[start:end] = end - start < 5
    regions = [(a / 10, b / 10) for a, b in zip(heard[::2], heard[1::2], strict=False)]
    shifted = tuple(moved(part, offset_s) for part in said)
    found = uncovered(map(span, regions), shifted, waveform(offset_s=offset_s))
    expected = [(a / 10, b / 10) for a, b in runs(speech & ~words) if b - a >= 30]
    assert [(part.start, part.end) for part in found] == [
        (round(start + offset_s, 3), round(end + offset_s, 3)) for start, end in expected
    ]


def runs(mask: np.ndarray[Any, np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Return where the mask is true: first, and one past the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def moved(part: Segment, offset_s: float) -> Segment:
    words = [(w.start, w.end) for w in part.words if w.start is not None and w.end is not None]
    times = words or [(part.start, part.end)]
    return segment(*times, text="" if words else part.text, offset_s=offset_s)


def test_lost_speech_is_named_with_its_seconds() -> None:
    heard = span((0.0, 9.0), (9.4, 20.0), (30.0, 32.9))
    said = (segment((2.0, 3.0), (10.0, 15.0)),)
    document = composed(said, heard)
    lost = [Interval(start=3.0, end=10.0), Interval(start=15.0, end=20.0)]
    assert list(document.uncovered) == lost
    assert document.warnings == ("UNCOVERED_SPEECH: 12 s in 2 places",)
    assert composed(said).warnings == ()  # as `FIDELITY=stock` has it


def test_nothing_beyond_the_recording_is_uncovered() -> None:
    document = composed((), span((56.0, 60.4)))
    assert document.uncovered == (Interval(start=56.0, end=60.0),)
    assert document.warnings == ("NO_SPEECH", "UNCOVERED_SPEECH: 4 s in 1 place")


@pytest.mark.parametrize("drop_flagged", [False, True])
def test_flags_are_counted_and_dropped_text_is_listed(drop_flagged: bool) -> None:
    flags = [(), (Flag.REPETITION, Flag.NO_SPEECH), (Flag.NO_SPEECH,), ()]
    said = tuple(segment((n, n + 0.5), flags=given) for n, given in enumerate(flags))
    document = composed(said, drop_flagged=drop_flagged)
    told = "FLAGGED: repetition 1, no_speech 2"
    assert document.warnings == (told + "; 2 dropped" * drop_flagged,)
    assert [(part.id, part.start) for part in document.segments] == (
        [(0, 0.0), (1, 3.0)] if drop_flagged else [(0, n) for n in range(4)]
    )
    assert [(part.start, part.flags) for part in document.dropped] == (
        [(1.0, flags[1]), (2.0, flags[2])] if drop_flagged else []
    )


def test_the_most_that_can_be_flagged_is_a_warning_still() -> None:
    counts = ", ".join(f"{flag} 99999" for flag in Flag)
    warning = f"{WarningCode.FLAGGED}: {counts}; 99999 dropped"
    document = composed(())
    assert Transcript.model_validate(document.model_dump() | {"warnings": [warning]})


def test_speakers_are_those_of_what_is_kept() -> None:
    said = (segment((0.0, 1.0), flags=(Flag.PROMPT,)),)
    assert composed(said).speakers == ("SPEAKER_00",)
    dropped = composed(said, drop_flagged=True)
    assert (dropped.segments, dropped.speakers) == ((), ())
    assert dropped.warnings == ("FLAGGED: prompt 1; 1 dropped",)


def test_a_document_without_doubts_has_the_keys_it_always_had() -> None:
    written = composed((segment((0.0, 1.0)),)).model_dump(mode="json")
    assert list(written) == [
        "schema_version", "segments", "speakers", "language", "language_probability",
        "duration_seconds", "processing_time_seconds", "models", "warnings", "request_id",
        "audio_etag",
    ]  # fmt: skip
    assert list(written["segments"][0]) == ["id", "start", "end", "text", "speaker", "words"]
    translated = composed((), task="translate").model_dump(mode="json")
    assert translated["task"] == "translate"

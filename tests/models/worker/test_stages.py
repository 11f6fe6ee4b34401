"""The stages on real models: text is kept, state does not leak, hints are honoured or told."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bucketscribe_contract import FailureCode, JobInput, WarningCode
from tests.recordings import short_reference, short_speech
from worker.cancel import CancelToken, StageContext
from worker.engines.whisper import Whisper
from worker.errors import JobCancelled, WorkerError
from worker.models.load import Models
from worker.stages import align as align_stage
from worker.stages import diarize as diarize_stage
from worker.stages import transcribe as transcribe_stage
from worker.stages.attribute import attribute
from worker.stages.speech import find_speech
from worker.types import (
    Alignment,
    Diarization,
    SpeakerTurn,
    TextSegment,
    TimedSegment,
    TimedWord,
    Transcription,
    Waveform,
)

SPEECH = Waveform(short_speech())
SILENCE = Waveform(np.zeros(16_000 * 20, np.int16))
INLINE = JobInput(audio_base64="QQ==")


def transcribe(models: Models, job: JobInput = INLINE, waveform: Waveform = SPEECH) -> Any:
    """Find speech and transcribe it."""
    spans = find_speech([waveform.samples], models.detector, StageContext(batch_size=32))
    return transcribe_stage.transcribe(
        waveform, spans, job, models.whisper, StageContext(batch_size=4)
    )


def align(models: Models, transcription: Transcription, waveform: Waveform = SPEECH) -> Alignment:
    """Align with the language's aligner."""
    aligner = models.aligner(transcription.language)
    return align_stage.align(waveform, transcription, aligner, StageContext())


def letters(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


def test_speech_becomes_its_words(models: Models) -> None:
    said = letters(" ".join(u.text for u in short_reference().utterances)).lower()
    heard = letters("".join(s.text for s in transcribe(models).segments)).lower()
    assert heard.replace("10", "ten").replace(",", "") == said.replace(",", "")


def test_silence_has_no_spans_and_no_text(models: Models) -> None:
    found = transcribe(models, waveform=SILENCE)
    assert found == Transcription((), None, None)
    assert align(models, found, SILENCE) == Alignment(())


@pytest.mark.parametrize("samples", [1, 159, 400, 1600])
def test_the_shortest_recordings_go_through(models: Models, samples: int) -> None:
    noise = np.random.default_rng(0).normal(0, 5000, samples).astype(np.int16)
    transcribe(models, waveform=Waveform(noise))


def test_a_language_the_model_does_not_speak_is_refused(models: Models) -> None:
    job = JobInput(audio_base64="QQ==", language="de")
    with pytest.raises(WorkerError, match="English-only") as caught:
        transcribe(models, job)
    assert caught.value.code is FailureCode.INVALID_INPUT


def test_nothing_of_a_job_stays_in_whisper(models: Models) -> None:
    plain = transcribe(models)
    prompted = JobInput(audio_base64="QQ==", initial_prompt="HARBOR", hotwords="ten minutes")
    transcribe(models, prompted)
    token = CancelToken()
    token.cancel()
    with pytest.raises(JobCancelled):
        transcribe_stage.transcribe(
            SPEECH, _spans(models), prompted, models.whisper, StageContext(token)
        )
    assert transcribe(models) == plain


def _spans(models: Models) -> Any:
    return find_speech([SPEECH.samples], models.detector, StageContext(batch_size=32))


def test_a_prompt_reaches_whisper(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    decode = Whisper.decode

    def spy(whisper: Any, chunks: Any, options: Any) -> Any:
        given = options.tokenizer.tokenizer.decode(options.prompt, skip_special_tokens=False)
        seen.append((given, options.tokenizer.language_code))
        return decode(whisper, chunks, options)

    monkeypatch.setattr(Whisper, "decode", spy)
    transcribe(models, JobInput(audio_base64="QQ==", initial_prompt="At sea.", hotwords="harbor"))
    start = "<|startoftranscript|><|notimestamps|>"
    assert seen == [("<|startofprev|> harbor At sea." + start, "en")]


def test_a_long_prompt_is_cut_with_a_warning(models: Models) -> None:
    job = JobInput(
        audio_base64="QQ==", initial_prompt="The ship sails at noon. " * 80, hotwords="harbor"
    )
    found = transcribe(models, job)
    assert found.warnings == (WarningCode.PROMPT_TOO_LONG,)
    assert "harbor" in found.segments[0].text


def test_words_are_timed_and_all_text_is_kept(models: Models) -> None:
    transcription = transcribe(models)
    alignment = align(models, transcription)
    assert alignment.warnings == ()
    words = [word for segment in alignment.segments for word in segment.words]
    assert letters("".join(w.word for w in words)) == letters(
        "".join(s.text for s in transcription.segments)
    )
    firsts = [segment.start for segment in alignment.segments]
    spoken = [utterance.start for utterance in short_reference().utterances]
    assert firsts == pytest.approx(spoken, abs=0.15)
    assert all(word.score is not None for word in words)


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
    models: Models, text: str, times: tuple[float, float]
) -> None:
    assert_kept(models, text, times)


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
def test_no_text_is_ever_lost(models: Models, text: str, start: float, length: float) -> None:
    assert_kept(models, text, (start, start + length))


def assert_kept(models: Models, text: str, times: tuple[float, float]) -> None:
    """Align one segment: all its letters are in the sentences and in the words, with times."""
    given_text = Transcription((TextSegment(*times, text, -0.1),), "en", None)
    alignment = align(models, given_text)
    assert letters("".join(s.text for s in alignment.segments)) == letters(text)
    words = [word for segment in alignment.segments for word in segment.words]
    assert letters("".join(word.word for word in words)) == letters(text)
    for timed in [*alignment.segments, *words]:
        assert math.isfinite(timed.start)
        assert math.isfinite(timed.end)
        assert timed.start <= timed.end


def test_a_language_without_aligner_keeps_segments_and_says_so(models: Models) -> None:
    found = align(models, Transcription((TextSegment(0, 2, " Hallo Welt.", -0.1),), "de", 0.9))
    assert found.warnings == (WarningCode.ALIGNMENT_UNAVAILABLE,)
    assert found.segments == (TimedSegment(0, 2, "Hallo Welt."),)


def diarize(models: Models, **hints: int) -> Diarization:
    """Diarize the short speech."""
    job = JobInput.model_validate({"audio_base64": "QQ=="} | hints)
    return diarize_stage.diarize(SPEECH, job, models.diarization, StageContext(batch_size=32))


@pytest.mark.parametrize(
    ("hints", "speakers", "met"),
    [
        ({"num_speakers": 1}, 1, True),
        ({"max_speakers": 1}, 1, True),
        ({"num_speakers": 2}, 2, True),
        ({"min_speakers": 60}, None, False),
        ({"num_speakers": 60}, None, False),
    ],
)
def test_hints_are_met_or_told(
    models: Models, hints: dict[str, int], speakers: int | None, met: bool
) -> None:
    found = diarize(models, **hints)
    assert found.turns
    if speakers is not None:
        assert len({turn.speaker for turn in found.turns}) == speakers
    assert (WarningCode.SPEAKER_HINTS_UNMET not in found.warnings) is met


def test_whoever_overlaps_a_word_longest_spoke_it() -> None:
    words = (TimedWord("a", 0.0, 1.0, 0.5), TimedWord("b", 1.0, 2.0, None))
    alignment = Alignment((TimedSegment(0.0, 2.0, "a b", words),))
    turns = (SpeakerTurn(0.0, 0.9, "SPEAKER_01"), SpeakerTurn(0.8, 1.7, "SPEAKER_00"))
    (segment,) = attribute(alignment, Diarization(turns), offset_s=10.0)
    assert segment.speaker in ("SPEAKER_00", "SPEAKER_01")
    assert [word.speaker for word in segment.words] == ["SPEAKER_01", "SPEAKER_00"]
    assert [word.timing for word in segment.words] == ["aligned", "interpolated"]
    assert (segment.start, segment.words[1].end) == (10.0, 12.0)

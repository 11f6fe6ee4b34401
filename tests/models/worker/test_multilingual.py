"""A language without aligner, told from speech that follows half a minute of silence."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.corpus import SPEECH_DIR, load_reference, read_recording, read_transcript
from bench.scoring import count
from bucketscribe_contract import JobInput, Transcript, WarningCode, WordTiming
from tests.recordings import SHORT_SPEECH, write_recording
from worker.cancel import CancelToken, StageContext
from worker.models.folder import find_models
from worker.models.load import load_models
from worker.runtime import Runtime
from worker.settings import WorkerSettings
from worker.stages.transcribe import transcribe
from worker.types import SpeechSpan, Waveform

DIALOGUE = SPEECH_DIR / "ausflug2.ogg"
GERMAN = SHORT_SPEECH.with_name("german.flac")  # espeak-ng's voice, a sentence of our own
HINDI = SHORT_SPEECH.with_name("hindi.flac")  # the same, half a minute that base hardly understands


def run(runtime: Runtime, recording: Path, **job: Any) -> Transcript:
    """Run one job."""
    job["audio_base64"] = base64.b64encode(recording.read_bytes()).decode()
    progress = runtime.begin(None, lambda _: None)
    return Transcript.model_validate(runtime.run(job, CancelToken(), progress))


def test_a_language_without_aligner_has_words_and_speakers(tmp_path: Path) -> None:
    """It is told from the speech, whatever the job before said of its own."""
    late = np.concatenate([np.zeros(35 * 16_000, np.int16), read_recording(GERMAN)])
    write_recording(tmp_path / "late.flac", late, encoding="flac")
    runtime = Runtime(WorkerSettings(whisper_model="base"))
    english = run(runtime, SHORT_SPEECH, language="en")
    assert (english.language, english.language_probability) == ("en", None)
    document = run(runtime, tmp_path / "late.flac")
    assert document.language == "de"
    assert document.language_probability is not None
    assert document.language_probability > 0.5
    assert document.models["transcribe"] == "base"
    assert document.warnings == (f"{WarningCode.ALIGNMENT_UNAVAILABLE}: words timed by attention",)
    assert "align" not in document.models
    assert "hamburg" in " ".join(segment.text for segment in document.segments).lower()
    assert document.speakers == ("SPEAKER_00",)
    assert all(segment.speaker == "SPEAKER_00" for segment in document.segments)
    assert len(document.segments) >= 2
    for segment in document.segments:
        assert " ".join(word.word for word in segment.words) == segment.text
        assert {word.timing for word in segment.words} == {WordTiming.ATTENTION}
        times = [34.5, *(time for w in segment.words for time in (w.start, w.end))]
        assert times == sorted(times)
        assert all(w.start < w.end for w in segment.words)
        assert (segment.start, segment.end) == (times[1], times[-1])


@pytest.mark.soak
def test_two_people_without_an_aligner_are_told_apart_and_the_same_every_time() -> None:
    runtime, reference = Runtime(WorkerSettings(whisper_model="base")), load_reference(DIALOGUE)
    first, second = (run(runtime, DIALOGUE).model_dump() for _ in range(2))
    counts = count(reference, read_transcript(first), first["duration_seconds"])
    assert (len(first["speakers"]), counts.right) == (2, counts.matched)
    assert counts.matched > 0.7 * counts.words
    times = dict.fromkeys(("processing_time_seconds",))
    assert first | times == second | times


def test_text_beyond_the_limit_of_stock_is_all_there() -> None:
    """Whisper's own limit is 224 tokens, and its loops end only there."""
    # int8 products differ from CPU to CPU, and with some the text is a loop
    settings = WorkerSettings(whisper_model="base", compute_type="float32")
    models = load_models(settings, find_models(settings))
    waveform = Waveform(read_recording(HINDI))
    job = JobInput(audio_base64="QQ==", language="hi")
    spans = (SpeechSpan(0.0, waveform.duration_s, ((0.0, waveform.duration_s),)),)
    found = transcribe(
        waveform, spans, job, models.whisper, StageContext(), needs_times=lambda *_: True
    )
    (segment,) = found.segments
    assert len(models.whisper.model.hf_tokenizer.encode(segment.text).ids) > 224
    assert "\N{REPLACEMENT CHARACTER}" not in segment.text
    assert "".join(word.word for word in segment.words) == "".join(segment.text.split())
    assert segment.words[-1].start > 24


def test_a_translation_is_english_and_its_job_says_what_was_spoken() -> None:
    settings = WorkerSettings(whisper_model="base")
    models = load_models(settings, find_models(settings))
    waveform = Waveform(read_recording(DIALOGUE)[: 20 * 16_000])
    job = JobInput(audio_base64="QQ==", task="translate")
    span = SpeechSpan(0.0, waveform.duration_s, ((0.0, waveform.duration_s),))
    found = transcribe(waveform, (span,), job, models.whisper, StageContext())
    assert (found.language, found.text_language, found.task) == ("de", "en", "translate")
    assert found.segments[0].text.startswith(" Good morning")

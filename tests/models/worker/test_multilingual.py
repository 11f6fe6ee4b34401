"""A language without aligner, told from speech that follows half a minute of silence."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from bench.corpus import read_recording
from bucketscribe_contract import Transcript, WarningCode
from tests.recordings import SHORT_SPEECH, write_recording
from worker.cancel import CancelToken
from worker.runtime import Runtime
from worker.settings import WorkerSettings

GERMAN = SHORT_SPEECH.with_name("german.flac")  # espeak-ng's voice, a sentence of our own


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    """A worker with the multilingual model."""
    return Runtime(WorkerSettings(whisper_model="base"))


@pytest.fixture(scope="module")
def late_german(tmp_path_factory: pytest.TempPathFactory) -> str:
    """35 s of silence, then German; as base64."""
    speech = read_recording(GERMAN)
    path = tmp_path_factory.mktemp("speech") / "late.flac"
    write_recording(
        path, np.concatenate([np.zeros(35 * 16_000, np.int16), speech]), encoding="flac"
    )
    return base64.b64encode(path.read_bytes()).decode()


def run(runtime: Runtime, **job: Any) -> Transcript:
    """Run one job."""
    progress = runtime.begin(None, lambda _: None)
    return Transcript.model_validate(runtime.run(job, CancelToken(), progress))


def test_the_language_is_told_from_the_speech(runtime: Runtime, late_german: str) -> None:
    document = run(runtime, audio_base64=late_german)
    assert document.language == "de"
    assert document.language_probability is not None
    assert document.language_probability > 0.5
    assert document.models["transcribe"] == "base"


def test_without_an_aligner_segments_and_speakers_are_intact(
    runtime: Runtime, late_german: str
) -> None:
    """And the next job is not bound to this one's language."""
    document = run(runtime, audio_base64=late_german, language="de")
    assert document.warnings == (WarningCode.ALIGNMENT_UNAVAILABLE,)
    assert document.language_probability is None
    assert "align" not in document.models
    text = " ".join(segment.text for segment in document.segments).lower()
    assert "hamburg" in text
    assert document.speakers == ("SPEAKER_00",)
    assert all(segment.speaker == "SPEAKER_00" for segment in document.segments)
    assert all(34.5 <= s.start < s.end and s.words == () for s in document.segments)
    english = base64.b64encode(SHORT_SPEECH.read_bytes()).decode()
    assert run(runtime, audio_base64=english).language == "en"

"""Noise, music and room tone: what Whisper invents there does not go out unflagged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle

import numpy as np
import pytest

from bucketscribe_contract import JobInput
from worker.cancel import StageContext
from worker.models.load import Models
from worker.stages.speech import find_speech
from worker.stages.transcribe import transcribe
from worker.types import SAMPLE_RATE_HZ, SpeechSpan, TextSegment, Waveform

FloatSamples = np.ndarray[tuple[int], np.dtype[np.float64]]
JOB = JobInput(audio_base64="QQ==", language="en")
LENGTHS_S = (30.0, 12.0, 5.0, 20.0, 2.0, 8.0, 25.0)
SHARE = 0.8


def coloured(rng: np.random.Generator, length: int, power: float) -> FloatSamples:
    """Noise whose amplitude falls with frequency to a power: 0 white, .5 pink, 1 brown."""
    spectrum = np.fft.rfft(rng.normal(size=length))
    spectrum /= np.maximum(np.arange(len(spectrum)), 1.0) ** power
    noise = np.fft.irfft(spectrum, length)
    return noise / np.abs(noise).max()


def music(rng: np.random.Generator, length: int) -> FloatSamples:
    """Chords of plucked strings over a drum, eight to a bar."""
    sound = np.zeros(length)
    beat = int(SAMPLE_RATE_HZ * rng.uniform(0.2, 0.5))
    for start in range(0, length, beat):
        t = np.arange(min(4 * beat, length - start)) / SAMPLE_RATE_HZ
        for note in rng.choice((0, 2, 4, 5, 7, 9, 11, 12), 3, replace=False):
            pitch = 220 * 2 ** (note / 12)
            tone = sum(np.sin(2 * np.pi * pitch * k * t) / k**2 for k in range(1, 6))
            sound[start : start + len(t)] += tone * np.exp(-t * rng.uniform(2, 6))
        drum = rng.normal(size=len(t)) * np.exp(-t * 40)
        sound[start : start + len(t)] += drum
    return sound / np.abs(sound).max()


def room_tone(rng: np.random.Generator, length: int) -> FloatSamples:
    """A quiet room: its air, the mains, now and then something that knocks or rustles."""
    t = np.arange(length) / SAMPLE_RATE_HZ
    sound = coloured(rng, length, 0.7) + 0.2 * np.sin(2 * np.pi * 50 * t)
    for start in rng.integers(0, length, max(1, length // (4 * SAMPLE_RATE_HZ))):
        part = sound[start : start + int(rng.uniform(0.02, 0.4) * SAMPLE_RATE_HZ)]
        part += coloured(rng, len(part) + 1, rng.uniform(0, 1))[:-1] * np.hanning(len(part)) * 3
    return sound / np.abs(sound).max()


def non_speech(seconds: float, seed: int = 0) -> Iterator[Waveform]:
    """Give pieces of all three kinds, up to 30 s each and so many seconds in all."""
    rng = np.random.default_rng(seed)
    makers = cycle(
        (
            lambda n: coloured(rng, n, rng.uniform(0, 1)),
            lambda n: music(rng, n),
            lambda n: room_tone(rng, n),
        )
    )
    for make, length_s in zip(makers, cycle(LENGTHS_S), strict=False):
        if seconds <= 0:
            return
        seconds -= length_s
        loudness = 10 ** rng.uniform(-2.5, -0.3)
        yield Waveform((make(int(length_s * SAMPLE_RATE_HZ)) * loudness * 32767).astype(np.int16))


@pytest.mark.parametrize("seconds", [60, pytest.param(600, marks=pytest.mark.soak)])
def test_what_whisper_invents_without_speech_is_flagged(models: Models, seconds: float) -> None:
    """The detector lets nothing through; nearly all that is decoded past it has a flag."""
    invented: list[TextSegment] = []
    for piece in non_speech(seconds):
        heard = find_speech(piece.blocks(), models.detector, StageContext(batch_size=32))
        delivered = transcribed(piece, heard, models)
        assert all(segment.confidence.flags for segment in delivered)
        whole = SpeechSpan(0.0, piece.duration_s, ((0.0, piece.duration_s),))
        invented += transcribed(piece, [whole], models)
    flagged = [segment for segment in invented if segment.confidence.flags]
    assert invented
    assert len(flagged) >= SHARE * len(invented)


def transcribed(piece: Waveform, spans: Sequence[SpeechSpan], models: Models) -> list[TextSegment]:
    """Return the segments that have a text."""
    found = transcribe(piece, spans, JOB, models.whisper, StageContext(batch_size=8))
    return [segment for segment in found.segments if segment.text.strip()]

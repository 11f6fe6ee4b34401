"""A dialogue from a script: utterances at exact times over light room noise.

Takes scripts and a voice function; returns int16 waveforms of 16 kHz and `Utterance`s. The
same script, seed and voices give the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.corpus import Utterance, Waveform
from bench.speed.inputs import LEAD_S, PAUSES_S, SAMPLES_PER_MS, TAIL_S, room_noise

Speak = Callable[[str, str], Waveform]
"""(voice, text) → speech; `tests.speech.speak`, or clips."""


@dataclass(frozen=True)
class Line:
    """One utterance of a script; `pause_s` before it, drawn when None, an overlap below 0."""

    speaker: str
    text: str
    pause_s: float | None = None


@dataclass(frozen=True)
class Script:
    """A dialogue to be spoken; `voices` maps a speaker to ``engine:name``."""

    name: str
    seed: int
    voices: dict[str, str]
    lines: tuple[Line, ...]


def record(script: Script, speak: Speak) -> tuple[Waveform, tuple[Utterance, ...]]:
    """Speak a script.

    Returns:
        The waveform, shape (n_samples,), and the utterances in order of their starts; times
        are whole milliseconds and hold to the sample.
    """
    rng = np.random.default_rng(script.seed)
    spoken = [speak(script.voices[line.speaker], line.text) for line in script.lines]
    starts_ms = _place([_length_ms(speech) for speech in spoken], script.lines, rng)
    ends_ms = [start + _length_ms(speech) for start, speech in zip(starts_ms, spoken, strict=True)]
    waveform = _mix(spoken, starts_ms, max(ends_ms) + round(TAIL_S * 1000), rng)
    utterances = (
        Utterance(start / 1000, end / 1000, line.speaker, line.text)
        for start, end, line in zip(starts_ms, ends_ms, script.lines, strict=True)
    )
    return waveform, tuple(sorted(utterances, key=lambda utterance: utterance.start))


def _length_ms(speech: Waveform) -> int:
    """Count the milliseconds that the speech touches."""
    return -(-len(speech) // SAMPLES_PER_MS)


def _place(lengths_ms: list[int], lines: tuple[Line, ...], rng: np.random.Generator) -> list[int]:
    """Say where each line starts, in milliseconds."""
    starts_ms: list[int] = []
    end_ms = 0
    for length_ms, line in zip(lengths_ms, lines, strict=True):
        drawn_s = float(rng.uniform(*PAUSES_S))  # drawn always: one line's pause moves no other
        pause_s = drawn_s if line.pause_s is None else line.pause_s
        start_ms = end_ms + round(pause_s * 1000) if starts_ms else round(LEAD_S * 1000)
        starts_ms.append(start_ms)
        end_ms = start_ms + length_ms
    return starts_ms


def _mix(
    spoken: list[Waveform], starts_ms: list[int], length_ms: int, rng: np.random.Generator
) -> Waveform:
    """Add the speech to the noise."""
    mixed = room_noise(length_ms * SAMPLES_PER_MS, rng)
    for speech, start_ms in zip(spoken, starts_ms, strict=True):
        start = start_ms * SAMPLES_PER_MS
        mixed[start : start + len(speech)] += speech
    return np.clip(np.rint(mixed), -32768, 32767).astype(np.int16)

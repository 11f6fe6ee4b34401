"""Synthetic voices: text in, 16 kHz speech out, through flite's and espeak-ng's commands.

Only the making of fixtures needs them (``apt-get install flite espeak-ng``); neither the
product nor its tests do.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import numpy as np

from bench.corpus import Waveform, read_recording

LOUDNESS_RMS = 3500.0
"""Every utterance is brought to this level (int16 units), so that no voice is a whisper."""
FRAME_SAMPLES = 80
SILENCE_OF_PEAK = 0.02
"""A 5 ms frame under this part of the loudest frame, at either end, is not speech."""


def speak(voice: str, text: str) -> Waveform:
    """Say a sentence.

    Args:
        voice: ``engine:name``, such as ``flite:slt`` or ``espeak-ng:en-us+f3``.
        text: One sentence.

    Returns:
        int16, shape (n_samples,), 16 kHz: no silence at either end, `LOUDNESS_RMS` loud.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "speech.wav"
        subprocess.run(_command(voice, text, file), check=True, capture_output=True)
        return level(trim(read_recording(file)))


def trim(waveform: Waveform) -> Waveform:
    """Cut silence off both ends, so that an utterance starts where it is said to start."""
    whole = waveform[: len(waveform) // FRAME_SAMPLES * FRAME_SAMPLES].astype(float)
    loudness = np.sqrt((whole.reshape(-1, FRAME_SAMPLES) ** 2).mean(axis=1))
    spoken = np.flatnonzero(loudness > SILENCE_OF_PEAK * loudness.max())
    first, last = int(spoken[0]), int(spoken[-1])
    return waveform[first * FRAME_SAMPLES : (last + 1) * FRAME_SAMPLES]


def level(waveform: Waveform) -> Waveform:
    """Bring speech to `LOUDNESS_RMS` without clipping."""
    speech = waveform.astype(float)
    gain = LOUDNESS_RMS / np.sqrt((speech**2).mean())
    quieter = min(gain, 30_000 / np.abs(speech).max())
    leveled: Waveform = (speech * quieter).astype(np.int16)
    return leveled


def _command(voice: str, text: str, file: Path) -> list[str]:
    engine, name = voice.split(":")
    if engine == "flite":
        return ["flite", "-voice", name, "-t", text, "-o", str(file)]
    if engine == "espeak-ng":
        return ["espeak-ng", "-v", name, "-s", "160", "-w", str(file), text]
    raise ValueError(f"no such voice: {voice}; known engines are flite and espeak-ng")

"""A few seconds of speech, and every kind of audio file made from it.

``tests/data/short.flac`` is the project's own (``python -m tests.speech``): two voices,
5.5 s, 16 kHz mono. `write_recording` turns its waveform, or any other, into any of `ENCODINGS`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from bench.corpus import (
    SAMPLE_RATE_HZ,
    Reference,
    Waveform,
    load_reference,
    read_recording,
    telephone_sample,
)
from tests.encodings import ENCODINGS, write_recording

SHORT_SPEECH = Path(__file__).parent / "data" / "short.flac"


@cache
def short_speech() -> Waveform:
    """Read the short speech: int16, shape (n_samples,), 16 kHz; not to be written into."""
    waveform = read_recording(SHORT_SPEECH)
    waveform.flags.writeable = False
    return waveform


def short_reference() -> Reference:
    """Tell what is said in the short speech, when and by whom."""
    return load_reference(SHORT_SPEECH)


def telephone_speech() -> Waveform:
    """Read pyannote's sample: 30 s of a telephone conversation of two people."""
    return read_recording(telephone_sample().audio)


__all__ = [
    "ENCODINGS",
    "SAMPLE_RATE_HZ",
    "SHORT_SPEECH",
    "short_reference",
    "short_speech",
    "telephone_speech",
    "write_recording",
]

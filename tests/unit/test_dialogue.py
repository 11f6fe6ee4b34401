"""Dialogues: everything is where its time says, and again so the next time."""

import numpy as np
import pytest

from bench.corpus import SAMPLE_RATE_HZ, Waveform
from bench.speed.inputs import LEAD_S, PAUSES_S
from tests.dialogue import Line, Script, record

AMPLITUDES = {"low": 1000, "high": 3000}
LINES = (
    Line("Ann", "one"),
    Line("Bob", "three"),
    Line("Ann", "eleven", 0.25),
    Line("Bob", "four", -0.002),
)
SCRIPT = Script("small", 3, {"Ann": "low", "Bob": "high"}, LINES)


def speak(voice: str, text: str) -> Waveform:
    """A constant as long as the text: 10 ms a letter, and a sample more."""
    return np.full(len(text) * 160 + 1, AMPLITUDES[voice], dtype=np.int16)


def test_utterances_sound_where_they_say_and_again_so_by_the_same_seed() -> None:
    """Loud from the first sample of each to its last, quiet one sample before; overlaps add up."""
    waveform, utterances = record(SCRIPT, speak)
    starts = [round(utterance.start * SAMPLE_RATE_HZ) for utterance in utterances]
    for utterance, start in zip(utterances[:3], starts, strict=False):
        length = len(speak("low", utterance.text))
        assert abs(waveform[start : start + length]).min() > 800
        assert abs(int(waveform[start - 1])) < 100
    assert waveform[starts[3] : starts[3] + 16].mean() == pytest.approx(4000, abs=50)
    again, utterances_again = record(SCRIPT, speak)
    other, _ = record(Script("small", 4, SCRIPT.voices, LINES), speak)
    assert utterances == utterances_again
    assert np.array_equal(waveform, again)
    assert not np.array_equal(waveform, other)


def test_pauses_are_drawn_from_the_stated_range_unless_given() -> None:
    """An overlap is a negative pause."""
    _, (one, three, eleven, four) = record(SCRIPT, speak)
    assert one.start == LEAD_S
    assert PAUSES_S[0] <= three.start - one.end <= PAUSES_S[1]
    pauses = eleven.start - three.end, four.start - eleven.end
    assert pauses == pytest.approx((0.25, -0.002))

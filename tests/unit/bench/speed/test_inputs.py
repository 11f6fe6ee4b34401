"""What is transcribed against the clock."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import (
    SAMPLE_RATE_HZ,
    SPEECH_DIR,
    Utterance,
    Waveform,
    load_reference,
    read_recording,
)
from bench.speed.inputs import (
    GERMAN_SPEECH,
    MEETING,
    PANEL,
    TELEPHONE,
    Recipe,
    compose,
    cut,
    write_input,
)


@cache
def composed(recipe: Recipe) -> tuple[Waveform, tuple[Utterance, ...]]:
    """Compose once."""
    return compose(recipe)


def test_dialogues_are_as_long_as_they_are_said_to_be() -> None:
    """Five minutes, and not much more: they are transcribed many times."""
    for recipe in (MEETING, PANEL):
        duration_s = len(composed(recipe)[0]) / SAMPLE_RATE_HZ
        assert 300 <= duration_s == pytest.approx(recipe.duration_s, rel=0.03)


def test_the_same_recipe_is_the_same_recording() -> None:
    """On every machine, so that figures can be compared."""
    assert np.array_equal(compose(MEETING)[0], composed(MEETING)[0])
    assert not np.array_equal(composed(MEETING)[0][:1000], composed(PANEL)[0][:1000])


def test_what_is_said_is_known() -> None:
    """A first round in the order of the script."""
    _, said = composed(MEETING)
    planning = load_reference(SPEECH_DIR / "planning3.flac")
    assert said[0].text == planning.utterances[0].text
    assert said[-1].end > 300


def test_utterances_that_others_talk_into_are_left_out() -> None:
    """They would carry the other voice along."""
    reference = load_reference(SPEECH_DIR / "planning3.flac")
    overlapping = {
        u.start
        for u in reference.utterances
        for other in reference.utterances
        if other is not u and other.start < u.end and u.start < other.end
    }
    assert len(cut(reference)) == len(reference.utterances) - len(overlapping)


def test_the_german_speech_is_short_of_a_megabyte() -> None:
    """It is committed, and read without a synthesiser."""
    assert GERMAN_SPEECH.stat().st_size < 1_000_000
    assert len(read_recording(GERMAN_SPEECH)) > 60 * SAMPLE_RATE_HZ


def test_an_input_is_written_once(tmp_path: Path) -> None:
    """16 kHz mono PCM16 WAV, as the edge uploads it."""
    path = write_input(TELEPHONE, tmp_path)
    assert path.read_bytes()[:4] == b"RIFF"
    assert len(read_recording(path)) == 30 * SAMPLE_RATE_HZ
    path.write_bytes(b"kept")
    assert write_input(TELEPHONE, tmp_path).read_bytes() == b"kept"

"""A few steps of training on tones: the loss falls, and what is saved aligns."""

from pathlib import Path

import numpy as np
import pytest

from tools.train_aligner.corpus import Utterance, learn_paths, onsets, shape_of
from tools.train_aligner.speech import Interval, WordGroup

LETTERS = "ETAO"
STEPS = 8


def chirps(seed: int) -> Utterance:
    """Make an utterance of one word, each letter a tone of its own."""
    rng = np.random.default_rng(seed)
    word = "".join(rng.choice(list(LETTERS), 8))
    phones = tuple(Interval(c.lower(), 0.12 * i, 0.12 * (i + 1)) for i, c in enumerate(word))
    group = WordGroup((word,), phones)
    time_s = np.arange(1920) / 16_000
    tones = [np.sin(2 * np.pi * 400 * (1 + LETTERS.index(c)) * time_s) for c in word]
    waveform = (np.concatenate(tones) * 8000).astype(np.int16)
    found = onsets(group, learn_paths([group])[shape_of(group)])
    assert found[-1] == ("|", pytest.approx(0.96))
    return Utterance(waveform, "tones", found, [Interval(word, 0.0, 0.96)])


@pytest.mark.soak
def test_loss_falls_and_the_saved_folder_aligns(tmp_path: Path) -> None:
    """The folder loads as whisperx loads it."""
    from tools.train_aligner.evaluation import Aligner, Segment
    from tools.train_aligner.training import train

    losses = train([chirps(seed) for seed in range(20)], STEPS, tmp_path / "model")
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 4_000_000
    sound = chirps(3).waveform.astype(np.float32) / 32768
    words = [Interval("Tea", np.nan, np.nan), Interval("at", np.nan, np.nan)]
    found = Aligner(tmp_path / "model").align(sound, Segment(0.0, 0.96, words))
    assert [word.label for word in found] == ["Tea", "at"]

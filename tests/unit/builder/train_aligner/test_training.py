"""A few seconds of training: the loss falls, and what is saved can be loaded."""

from pathlib import Path

import numpy as np
import pytest

from tools.train_aligner.corpus import TimedWord, Utterance, load_corpus, save_corpus
from tools.train_aligner.letters import Onset

LETTERS = "ETAO"


def chirps(seed: int) -> Utterance:
    """Make an utterance of one word, each letter a tone of its own."""
    rng = np.random.default_rng(seed)
    letters = [LETTERS[i] for i in rng.integers(len(LETTERS), size=8)]
    time_s = np.arange(1920) / 16_000
    tones = [np.sin(2 * np.pi * 400 * (1 + LETTERS.index(c)) * time_s) for c in letters]
    onsets = [Onset(c, 0.12 * i) for i, c in enumerate(letters)]
    word = TimedWord("".join(letters), 0.0, 0.96)
    waveform = (np.concatenate(tones) * 8000).astype(np.int16)
    return Utterance(waveform, "tones", (*onsets, Onset("|", 0.96)), (word,))


def test_corpus_survives_its_file(tmp_path: Path) -> None:
    """Waveforms are cut out of one long one again."""
    utterances = [chirps(1), chirps(2)]
    save_corpus(utterances, tmp_path / "corpus.npz")
    for saved, loaded in zip(utterances, load_corpus(tmp_path / "corpus.npz"), strict=True):
        np.testing.assert_array_equal(saved.waveform, loaded.waveform)
        assert (saved.voice, saved.onsets, saved.words) == (
            loaded.voice,
            loaded.onsets,
            loaded.words,
        )


@pytest.mark.models
def test_loss_falls_and_the_saved_folder_aligns(tmp_path: Path) -> None:
    """Twelve seconds on tones; the folder loads as whisperx loads it."""
    from tools.train_aligner.evaluation import Aligner, Segment
    from tools.train_aligner.training import train

    losses = train([chirps(seed) for seed in range(20)], 0.2, tmp_path / "model")
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:3])
    assert (tmp_path / "model" / "model.safetensors").stat().st_size < 4_000_000
    sound = chirps(3).waveform.astype(np.float32) / 32768
    words = (TimedWord("Tea", np.nan, np.nan), TimedWord("at", np.nan, np.nan))
    found = Aligner(tmp_path / "model").align(sound, Segment(0.0, 0.96, words))
    assert [word.word for word in found] == ["Tea", "at"]

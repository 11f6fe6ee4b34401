"""The aligner that this repository ships."""

import json
from pathlib import Path

import numpy as np
import pytest

from bench.corpus import read_recording
from tools.train_aligner.corpus import TimedWord
from tools.train_aligner.evaluation import Aligner, Row, Segment, measure, spread

WEIGHTS = Path(__file__).parents[3] / "builder" / "align_en_tiny"
DATA = Path(__file__).parent / "data"


def spoken() -> Segment:
    """Three sentences in voices that the aligner was not trained on, with their word times."""
    known = json.loads((DATA / "spoken.words.json").read_text())
    words = tuple(TimedWord(**word) for word in known)
    return Segment(0.0, words[-1].end_s + 0.2, words)


@pytest.fixture(scope="module")
def row() -> Row:
    """The errors on those sentences."""
    sound = read_recording(DATA / "spoken.flac").astype(np.float32) / 32768
    return measure("spoken", Aligner(WEIGHTS), sound, [spoken()])


def test_takes_less_than_ten_megabytes() -> None:
    """It is in git."""
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 10_000_000


def test_baseline_covers_the_segment() -> None:
    """The naive baseline is the spread that it says it is: first to last, without a gap."""
    words = (TimedWord("ab", 1.0, 2.0), TimedWord("abcd", 2.0, 4.0))
    first, second = spread(Segment(1.0, 8.0, words))
    assert (first.start_s, first.end_s) == (1.0, 4.0)  # 3 of 7 characters, the space included
    assert second.start_s == 4.0
    assert second.end_s >= 8.0


@pytest.mark.models
def test_word_starts_are_found_far_better_than_by_spreading(row: Row) -> None:
    """The median and the 90th percentile, by an order of magnitude."""
    ours, naive = np.abs(row.starts), np.abs(row.naive_starts)
    assert np.median(ours) < min(0.03, np.median(naive) / 5)
    assert np.percentile(ours, 90) < min(0.08, np.percentile(naive, 90) / 5)


@pytest.mark.models
def test_word_ends_are_found(row: Row) -> None:
    """They are a little early: see the model card."""
    assert np.median(np.abs(row.ends)) < 0.06


@pytest.mark.models
def test_loads_as_float32_with_its_processor() -> None:
    """The weights are half precision on disk; a CPU computes in single."""
    model = Aligner(WEIGHTS)._model
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}
    assert sum(p.numel() for p in model.parameters()) == 1_862_304

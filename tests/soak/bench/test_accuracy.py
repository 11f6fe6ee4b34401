"""Accuracy on real models: stock by itself, and ours next to it through the whole path."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import accuracy
from bench.corpus import ROOT, read_transcript
from bench.speed.turns import run_process
from bench.stock import transcribe_files
from tests.recordings import SHORT_SPEECH, short_reference

FIVE_MINUTES_S = 300


@pytest.fixture(scope="module")
def models() -> Path:
    """The demo models, assembled where `make` puts them unless they are there already."""
    folder = Path(os.environ.get("MODELS_DIR", ROOT / "models"))
    fetch = [sys.executable, "-m", "builder.fetch_models", "--profile", "demo", "--into"]
    subprocess.run([*fetch, str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.mark.timeout(FIVE_MINUTES_S)
def test_stock_hears_the_short_speech(models: Path) -> None:
    """Every word, both speakers, from a process of its own."""
    (result,) = run_process(transcribe_files, models.resolve(), [SHORT_SPEECH])
    hypothesis = read_transcript(result.transcript)
    assert "train to the harbor leaves in" in hypothesis.text
    assert len(hypothesis.speakers) == 2
    assert set(result.timings_s) == {"transcribe", "align", "diarize", "attribute"}


@pytest.mark.timeout(FIVE_MINUTES_S)
def test_ours_is_no_worse_than_stock_on_the_short_speech(models: Path, tmp_path: Path) -> None:
    """Through S3, queue and worker, with the real edge client."""
    (comparison,), names = accuracy.compare([short_reference()], models, tmp_path / "logs")
    assert accuracy.complaints(comparison) == []
    assert comparison.ours.wer < 0.1
    assert set(names) == {"speech", "transcribe", "align", "diarize"}

"""The check of a GPU, where there is none: production's architectures with random weights."""

import json
import os
from pathlib import Path

import pytest
from torchaudio import pipelines

from bench import gpu_check
from bench.corpus import ROOT
from bench.speed.architectures import write_architectures
from bench.speed.inputs import derive_models
from tests.soak.builder.test_production_offline import weights_of
from tests.soak.conftest import Tell

pytestmark = pytest.mark.timeout(900)
BUNDLE = "WAV2VEC2_ASR_BASE_960H"


def test_the_command_fills_all_but_the_cards_columns(tmp_path: Path, tell: Tell) -> None:
    """Stock aligns with torchaudio's bundle, by its name and from its folder, as ours does."""
    real = Path(os.environ.get("MODELS_DIR", ROOT / "models"))
    changes = {
        "align": {"en": {"path": "bundle", "name": BUNDLE, "kind": "torchaudio"}},
        "files": {},
    }
    models = derive_models(
        write_architectures(real, tmp_path / "made"), tmp_path / "models", changes
    )
    bundle = getattr(pipelines, BUNDLE)
    (models / "bundle").mkdir()
    (models / "bundle" / bundle._path).write_bytes(weights_of(bundle))

    code = gpu_check.main(["--models", str(models), "--into", str(tmp_path)])

    report, page = json.loads((tmp_path / "gpu-check.json").read_text()), tmp_path / "gpu-check.md"
    tell(page.read_text())
    assert (code, report["device"], report["models"]["align"]) == (0, "cpu", BUNDLE)
    for rows in report["tables"].values():
        for row in rows:
            empty = {column for column, cell in row.items() if cell is None}
            assert {c for c in row if c.startswith("card")} <= empty
            assert not {c for c in row if c.startswith("CPU")} & empty
    assert gpu_check.NOT_WORTH in page.read_text()

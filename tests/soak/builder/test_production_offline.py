"""A production folder of stand-in weights passes the offline check, and the worker loads it."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.fetch_models import ProductionBuild
from builder.pins import HubProfile, load_profile
from builder.verify_offline import main
from tests.fakes.hub import TOKEN, Hub
from tests.unit.builder.tiny_profile import hub_model, plain_model
from worker.models.folder import ModelsFolder, Profile

if TYPE_CHECKING:
    from torchaudio.pipelines import Wav2Vec2ASRBundle


ENGLISH = Path(__file__).parents[3] / "builder" / "align_en_tiny"
BUNDLE = "VOXPOPULI_ASR_BASE_10K_DE"


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def tiny_bundle(monkeypatch: pytest.MonkeyPatch) -> Wav2Vec2ASRBundle:
    """The German bundle with one narrow layer, under its own name."""
    import torchaudio.pipelines

    full = torchaudio.pipelines.VOXPOPULI_ASR_BASE_10K_DE
    narrow = {
        "encoder_embed_dim": 16,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 1,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 32,
    }
    bundle = replace(full, _params=full._params | narrow)
    monkeypatch.setattr(torchaudio.pipelines, BUNDLE, bundle)
    return bundle


def weights_of(bundle: Any) -> bytes:
    """Random weights as fairseq left them: with outputs that torchaudio takes away."""
    import torch
    from torchaudio.models import wav2vec2_model

    outputs = bundle._params["aux_num_out"] + len(bundle._remove_aux_axis)
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(wav2vec2_model(**bundle._params | {"aux_num_out": outputs}).state_dict(), buffer)
    return buffer.getvalue()


@pytest.fixture
def production_dir(hub: Hub, models_dir: Path, tmp_path: Path, tiny_bundle: Any) -> Path:
    """Baked from a hub that has the demo's weights under production's names."""
    hub.repos |= {
        "whisper/x": contents(models_dir / "whisper" / "tiny.en"),
        "align/x": contents(ENGLISH),
        "diarization/x": contents(models_dir / "diarization"),
    }
    german, file = weights_of(tiny_bundle), tiny_bundle._path
    tables = models_dir / "nltk_data" / "tokenizers"
    punkt = Path(shutil.make_archive(str(tmp_path / "p"), "zip", tables, "punkt_tab")).read_bytes()
    hub.plain |= {f"torchaudio/{file}": german, "nltk/punkt_tab.zip": punkt}
    models = (
        hub_model("whisper", "tiny.en", "whisper/x", languages=("en",)),
        hub_model("align", "english", "align/x", languages=("en",)),
        hub_model("align", "japanese", "align/x", languages=("ja",)),
        plain_model("align", BUNDLE, file, german, languages=("de",), torchaudio_bundle=BUNDLE),
        hub_model("diarization", "ge2e", "diarization/x"),
        plain_model("nltk_data", "punkt_tab", "punkt_tab.zip", punkt),
    )
    profile = load_profile("production").model_copy(update={"models": models})
    assert isinstance(profile, HubProfile)
    environment, into = hub.environment(HF_TOKEN=TOKEN), tmp_path / "models"
    ProductionBuild(profile, models, into, environment, write=lambda _: None).run()
    return into


def test_production_folder_passes_while_it_is_whole_and_the_worker_loads_its_bundle(
    production_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every kind of model, the torchaudio one by its name and its folder; no network.

    Missing weights are named, with a remedy for the folder's own profile.
    """
    code = main([str(production_dir)])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    lines = captured.out.splitlines()
    assert [" ".join(line.split()[:2]) for line in lines] == [
        "whisper tiny.en", "align en", "align ja", "align de",
    ]  # fmt: skip
    assert all(" ok " in line for line in lines)

    from worker.models.device import Device
    from worker.models.load import Models

    nothing: Any = None  # an aligner needs none of the other models
    worker = Models(
        folder=ModelsFolder(production_dir, Profile.read(production_dir), "tiny.en"),
        device=Device("cpu", "int8", 1, 1, 1, 1),
        detector=nothing,
        whisper=nothing,
        diarization=nothing,
    )
    aligner = worker.aligner("de")
    assert aligner is not None
    assert aligner.name == BUNDLE
    assert aligner.metadata["type"] == "torchaudio"
    assert "ß" in aligner.metadata["dictionary"]

    next((production_dir / "align" / "de").iterdir()).unlink()
    assert main([str(production_dir)]) == 1
    message = capsys.readouterr().err
    assert "align/de/wav2vec2_voxpopuli" in message
    assert "--profile production --into" in message

"""Models are loaded from where they lie, and a folder that an older builder made is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pickle import UnpicklingError
from types import SimpleNamespace
from typing import Any

import nltk.data
import pytest
import torch
from pyannote.audio.core.task import Problem

from bucketscribe_contract import FailureCode
from worker.engines.segmentation import embedding_of, segmentation_of
from worker.errors import WorkerError
from worker.models.folder import find_models
from worker.models.imports import weights_only
from worker.models.load import Models, load_models
from worker.settings import WorkerSettings


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the demo models, of links; no other test reads its sentence splitters."""
    monkeypatch.setattr("nltk.data.path", [*nltk.data.path])
    folder, ours = tmp_path / "demo", WorkerSettings().models_dir
    shutil.copytree(ours, folder, copy_function=lambda a, b: Path(b).symlink_to(a))
    return folder


def edit_profile(folder: Path, **changes: Any) -> None:
    """Replace some of a folder's table of contents."""
    path = folder / "profile.json"
    document = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(document | changes))


def load(folder: Path, volume: Path = Path("/nonesuch")) -> Models:
    settings = WorkerSettings(models_dir=folder, models_volume=volume, device="cpu")
    return load_models(settings, find_models(settings))


def test_a_whisper_model_from_the_cache_is_loaded(demo: Path, tmp_path: Path) -> None:
    """The demo models, with their Whisper in the model cache instead."""
    source = {"whisper/tiny.en": {"revision": "edaa852", "pin": {"repo": "Systran/tiny.en"}}}
    edit_profile(demo, provenance=source)
    cached = tmp_path / "huggingface-cache/hub/models--Systran--tiny.en/snapshots/edaa852"
    cached.parent.mkdir(parents=True)
    (demo / "whisper/tiny.en").rename(cached)
    models = load(demo, tmp_path)
    assert models.folder.whisper_name == "tiny.en"
    assert models.aligner("en") is not None


def test_a_checkpoint_that_names_a_module_that_moved_is_refused_with_the_remedy(demo: Path) -> None:
    """Folders of before the house have the embedding's class in ``worker.ge2e``."""
    path = demo / "diarization/embedding/pytorch_model.bin"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["pyannote.audio"]["architecture"]["module"] = "worker.ge2e"
    path.unlink()
    torch.save(checkpoint, path)
    edit_profile(demo, files={})
    with pytest.raises(WorkerError, match=r"diarization.*worker\.ge2e.*builder\.fetch_models") as e:
        load(demo)
    assert e.value.code is FailureCode.MODEL_UNAVAILABLE


class Malicious:
    """Something that a pickle runs when it is loaded."""

    def __reduce__(self) -> Any:
        return Path.touch, (MARK,)


MARK = Path("/tmp/bucketscribe-was-run")  # noqa: S108  # a fixed name, to be found in the pickle


@pytest.mark.parametrize("name", ["vad", "diarization/embedding"])
def test_a_pickle_runs_no_code_whatever_its_digest(demo: Path, name: str) -> None:
    path = demo / name / "pytorch_model.bin"
    path.unlink()
    torch.save({"state_dict": Malicious()}, path)
    edit_profile(demo, files={})
    with pytest.raises(WorkerError, match=r"other things than weights.*builder\.fetch_models"):
        load(demo)
    assert not MARK.exists()


class ByGetattr:
    """What is pickled as an attribute of something; Debian's Python pickles enums so."""

    def __init__(self, owner: Any, name: str) -> None:
        self._of = owner, name

    def __reduce__(self) -> Any:
        return getattr, self._of


def test_members_of_enums_are_read_and_no_other_attributes(tmp_path: Path) -> None:
    member, attribute = tmp_path / "member", tmp_path / "attribute"
    torch.save(ByGetattr(Problem, "REPRESENTATION"), member)
    torch.save(ByGetattr(dict, "fromkeys"), attribute)
    with weights_only():
        assert torch.load(member) is Problem.REPRESENTATION
        with pytest.raises(UnpicklingError, match="getattr"):
            torch.load(attribute)


def test_a_rehearsal_runs_every_model(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU it finds what does not run there, before a job does."""
    ran = []
    encode = models.whisper.model.model.encode
    networks = {
        "detector": segmentation_of(models.detector.vad_pipeline).model,
        "segmentation": segmentation_of(models.diarization.model).model,
        "embedding": embedding_of(models.diarization.model).model_,
    }
    models.get_ready_for_more()
    aligner = models.aligner("en")
    assert aligner is not None
    networks["aligner"] = aligner.model
    hooks = [
        network.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
        for name, network in networks.items()
    ]
    whisper = SimpleNamespace(
        encode=lambda *a, **k: (ran.append("whisper"), encode(*a, **k))[1],
        generate=models.whisper.model.model.generate,
        device="cpu",
        is_multilingual=False,
    )
    monkeypatch.setattr(models.whisper.model, "model", whisper)
    models.rehearse()
    for hook in hooks:
        hook.remove()
    assert set(ran) == {"whisper", *networks}

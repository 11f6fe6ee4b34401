"""Assemble a models folder: `python -m builder.fetch_models --profile demo --into DIR`.

The demo profile is made of installed packages alone, without a network; the production profile is
downloaded. Every file is checked, and the folder appears at once, when it is complete. Exit codes:
0 it is complete, 1 wrong bytes or a full disk, 2 usage or a model that is not pinned, 3 a server
that cannot be reached or wants a token.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from builder.assemble import describe_source, fill, is_complete, pin_of
from builder.download import Downloader, Listing, read_token, tell_gated
from builder.errors import AccessDenied, BuildError, ChoiceError, DiskFull
from builder.folders import check_ours, fresh_folder, sha256_of
from builder.pins import MODELS_TOML, PROFILES, HubModel, HubProfile, PackageProfile, load_profile
from worker.models.imports import go_offline

DEFAULT_WHISPER = ("large-v3",)
DEFAULT_LANGUAGES = ("en",)
"""The other aligners of torchaudio are CC-BY-NC: who may use them asks for them."""


def fetch(
    profile: PackageProfile,
    into: Path,
    *,
    multilingual: bool = False,
    diarization: str | None = None,
) -> str:
    """Make sure that a folder holds models of installed packages; say in a line what was done.

    Raises:
        BuildError: An installed file is missing or is not the pinned one, or the folder was not
            made by an earlier run.
    """
    started = time.monotonic()
    models = profile.chosen(multilingual=multilingual, diarization=diarization)
    origins = {m.folder: describe_source(m, profile) for m in models}
    if is_complete(into, "demo", models[0].name, origins):
        return f"{into} is complete already"
    check_ours(into)
    with fresh_folder(into) as fresh:
        fill(fresh, profile, models)
    seconds = time.monotonic() - started
    return f"{into}: {', '.join(m.name for m in models)} assembled in {seconds:.1f} s"


@dataclass(frozen=True)
class ProductionBuild:
    """A build of the production profile.

    Args:
        profile: Where everything is.
        models: The chosen ones, the default Whisper model first.
        into: The models folder.
        environment: Holds the token and other mirrors.
        downloads: Where downloads go and stay; None: beside the folder, removed when it is
            complete or the disk is full.
        write: Takes a line of the build log.
    """

    profile: HubProfile
    models: tuple[HubModel, ...]
    into: Path
    environment: Mapping[str, str]
    downloads: Path | None = None
    write: Callable[[str], object] = print

    def run(self) -> str:
        """Make sure that the folder holds the models, and say in a line what was done.

        Raises:
            BuildError: It does not, and is as it was.
        """
        started = time.monotonic()
        origins = {m.folder: {"pin": pin_of(m)} for m in self.models}
        if is_complete(self.into, "production", self.models[0].name, origins):
            return f"{self.into} is complete already"
        check_ours(self.into)
        token = read_token(self.environment)
        if token is None and (gated := [m for m in self.models if m.gated]):
            raise AccessDenied(tell_gated(gated[0]))
        for licence in sorted({m.licence for m in self.models}):
            names = ", ".join(m.name for m in self.models if m.licence == licence)
            self.write(f"licence {licence}: {names}")
        self._build(token)
        return f"{self.into}: complete in {time.monotonic() - started:.0f} s"

    def _build(self, token: SecretStr | None) -> None:
        """List everything, download what is missing, assemble."""
        store = self.downloads or self.into.with_name(f".{self.into.name}.downloads")
        resumable = f"what arrived stays in {store}: run again to resume"
        mirrors = self.profile.mirrors.overridden(self.environment)
        downloader = Downloader(store, self.into, mirrors, token, self.write)
        listings = [downloader.list_files(model) for model in self.models]
        try:
            with _ended_by_interrupt(resumable):
                found = downloader.fetch(listings)
            with fresh_folder(self.into) as fresh:
                packaged = self.profile.packaged
                fill(fresh, packaged, packaged.models, listings, found)
        except DiskFull:
            self._drop(store)
            raise
        except BuildError:
            self.write(resumable)
            raise
        self._tell_unpinned(listings, found)
        self._drop(store)

    def _drop(self, store: Path) -> None:
        if self.downloads is None:
            shutil.rmtree(store, ignore_errors=True)

    def _tell_unpinned(self, listings: list[Listing], found: Mapping[str, Path]) -> None:
        """Say what to write into models.toml so that the next build gets the same."""
        for listing in listings:
            model = listing.model
            pin = f'revision = "{listing.revision}"'
            if model.file:
                digest = sha256_of(found[listing.files[0].to])
                pin = f'sha256 = {{ "{model.file}" = "{digest}" }}'
            if not model.is_pinned:
                self.write(f"{model.name} was not pinned; this build took {pin}")


@contextmanager
def _ended_by_interrupt(resumable: str) -> Iterator[None]:
    """Have Ctrl-C end the process: the hub's client would first finish the files in flight."""

    def end(*_: object) -> None:
        os.write(2, f"\nfetch_models: interrupted; {resumable}\n".encode())
        os._exit(130)

    before = signal.signal(signal.SIGINT, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def choose(
    profile: HubProfile,
    whisper: Sequence[str] = DEFAULT_WHISPER,
    languages: Sequence[str] = DEFAULT_LANGUAGES,
    allowed: Iterable[str] = (),
) -> tuple[HubModel, ...]:
    """Choose the models that a production build takes.

    Args:
        profile: All there are.
        whisper: Names; the first becomes the default.
        languages: ISO 639-1, those to have an aligner.
        allowed: Names of models that may be taken without a pin.

    Raises:
        ChoiceError: There is no such model, or it is not pinned and not allowed.
    """
    by_name = {m.name: m for m in profile.models if m.kind == "whisper"}
    aligners = [m for m in profile.models if m.kind == "align"]
    by_language = {language: m for m in aligners for language in m.languages or ()}
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line tool and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        print(_run(options))
    except BuildError as exc:
        print(f"fetch_models: {exc}", file=sys.stderr)
        return exc.exit_code
    except OSError as exc:
        remedy = "choose another place with --into and --downloads"
        where = exc.filename or options.into
        print(f"fetch_models: {where}: {exc.strerror}: {remedy}", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> str:
    profile = load_profile(options.profile, options.pins)
    if isinstance(profile, PackageProfile):
        go_offline()
        warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")
        return fetch(
            profile,
            options.into,
            multilingual=options.with_multilingual,
            diarization=options.diarization,
        )
    models = choose(profile, options.whisper, options.languages, options.allow_unpinned)
    return ProductionBuild(profile, models, options.into, os.environ, options.downloads).run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("fetch_models", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=PROFILES, required=True)
    parser.add_argument("--into", type=Path, required=True, metavar="DIR")
    more = "demo: also Whisper base, 99 languages (145 MB)"
    parser.add_argument("--with-multilingual", action="store_true", help=more)
    better = "demo: campplus-average, better on real meetings, slower (requirements/weights.txt)"
    parser.add_argument("--diarization", metavar="NAME", help=better)
    add = parser.add_argument_group("production").add_argument
    whisper = f"what WHISPER_MODEL may choose, the default first ({','.join(DEFAULT_WHISPER)})"
    add("--whisper", type=_names, default=DEFAULT_WHISPER, metavar="NAME,…", help=whisper)
    languages = f"those to have word times ({','.join(DEFAULT_LANGUAGES)})"
    add("--languages", type=_names, default=DEFAULT_LANGUAGES, metavar="en,de,…", help=languages)
    unpinned = "take this model as it is today; the build log says what to pin"
    add("--allow-unpinned", action="append", default=[], metavar="NAME", help=unpinned)
    cache = "keep downloads here for the next build (a cache mount)"
    add("--downloads", type=Path, metavar="DIR", help=cache)
    add("--pins", type=Path, default=MODELS_TOML, metavar="FILE", help="another models.toml")
    return parser


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


if __name__ == "__main__":
    sys.exit(main())

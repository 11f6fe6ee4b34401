"""All files of a build, several at a time, each fetched once.

Takes `RemoteFile`s; returns where each lies, checked. What an older folder or an earlier run
already has with the right checksum is not fetched again.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from pydantic import SecretStr

from builder.disk import REMEDY
from builder.download import Cancelled, download
from builder.errors import DiskFull
from builder.hub import RemoteFile
from builder.progress_lines import ProgressLines, human

PARTIAL = ".part"


@dataclass(frozen=True)
class Downloads:
    """Where downloads go until the folder is assembled, and how they are made.

    Args:
        folder: Made if absent. Finished files are named by checksum; partial ones end in
            ``.part`` and are gone on with.
        older: A models folder that an earlier run made, or that does not exist.
        token: The hub's.
        jobs: How many files at a time.
        sleep: Waits for so many seconds between attempts.
    """

    folder: Path
    older: Path
    token: SecretStr | None
    jobs: int
    progress: ProgressLines
    sleep: Callable[[float], object] = time.sleep
    stop: Event = field(default_factory=Event)

    def fetch(self, files: Iterable[RemoteFile]) -> dict[str, Path]:
        """Have every file on the disk.

        Returns:
            Where each file lies, by its path in the models folder.

        Raises:
            DiskFull: There is not enough room; nothing was fetched, if that could be known before.
            BuildError: A file could not be had; the others were stopped.
        """
        wanted = tuple(files)
        found = {file.to: path for file in wanted if (path := self._have(file)) is not None}
        # Whisper models share tokenizers: what has one checksum is fetched once.
        missing = {_name(file): file for file in wanted if file.to not in found}
        self.folder.mkdir(parents=True, exist_ok=True)
        self._check_room(missing.values())
        self.progress.start(sum(f.size_bytes or 0 for f in missing.values()), len(found))
        self._fetch_side_by_side(missing.values())
        return {file.to: self.folder / _name(file) for file in wanted} | found

    def _fetch_side_by_side(self, files: Iterable[RemoteFile]) -> None:
        with ThreadPoolExecutor(self.jobs, "download") as pool:
            futures = [pool.submit(self._fetch, file) for file in files]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:  # an interrupt too must not wait for gigabytes
                self.stop.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _fetch(self, file: RemoteFile) -> None:
        if self.stop.is_set():
            raise Cancelled
        path = self.folder / _name(file)
        partial = path.with_name(path.name + PARTIAL)
        download(
            file,
            partial,
            self.token,
            on_bytes=self.progress.add,
            sleep=self._wait,
            stop=self.stop,
        )
        partial.rename(path)
        self.progress.finished(file.to, path.stat().st_size)

    def _wait(self, seconds: float) -> None:
        self.sleep(seconds)
        if self.stop.is_set():
            raise Cancelled

    def _have(self, file: RemoteFile) -> Path | None:
        """Find a file whose bytes are known to be right."""
        if file.digest is None:
            return None
        here = (self.older / file.to, self.folder / _name(file))
        return next((path for path in here if file.digest.fits(path)), None)

    def _check_room(self, missing: Iterable[RemoteFile]) -> None:
        needed = sum((f.size_bytes or 0) - self._partial_bytes(f) for f in missing)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise DiskFull(
                f"{human(needed)} are to be fetched and {self.folder.parent} has {human(free)} "
                f"free: {REMEDY}"
            )

    def _partial_bytes(self, file: RemoteFile) -> int:
        partial = self.folder / (_name(file) + PARTIAL)
        return partial.stat().st_size if partial.is_file() else 0


def _name(file: RemoteFile) -> str:
    """Name a download so that two builds with other pins cannot mistake it."""
    if file.digest is None:
        return "url-" + hashlib.sha256(file.url.encode()).hexdigest()
    return f"{file.digest.algorithm}-{file.digest.value}"

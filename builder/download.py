"""One file onto the disk, whatever the connection does; what is left there is right or partial.

Takes a `RemoteFile` and a path; fills the path, going on where an earlier attempt, or an earlier
run, was cut off. A file that is not what it should be is removed and named.

The Hugging Face token: read where the builder was told to look, shown to nobody.

It comes from ``HF_TOKEN``, from the file that ``HF_TOKEN_FILE`` names, or from the place where a
container build mounts its secrets; never from the command line, which every process can read, and
never from a token that somebody else left in a home directory. It is sent to the hub alone, and
for gated models alone.

One HTTP request: what went wrong is said in our words, without a URL's query.

The messages of HTTP libraries hold the whole URL, and a hub redirects to signed ones.

What a model's files are, and where: a repository of a hub, or one plain file.

Speaks the part of the Hugging Face Hub's protocol that a download needs: the listing of a
revision, with SHA-256 of large files and git's id of small ones, and `resolve`, which redirects
to where the bytes are. The official client is not used for the bytes: it compares no checksum,
gives up when a connection is closed early, and reads its offline switch at import, which the rest
of this package sets. The tests hold both against the same server.

What a build log shows of downloads: a line a file, and one every few seconds between.

All files of a build, several at a time, each fetched once.

Takes `RemoteFile`s; returns where each lies, checked. What an older folder or an earlier run
already has with the right checksum is not fetched again.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from io import FileIO
from pathlib import Path
from threading import Event, Lock
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import requests
from pydantic import BaseModel, Field, SecretStr, ValidationError
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from builder.errors import AccessDenied, BuildError, DiskFull, Unreachable, WrongBytes
from builder.folders import REMEDY, Digest, named_when_full
from builder.pins import HubModel, Places

VARIABLE = "HF_TOKEN"
FILE_VARIABLE = "HF_TOKEN_FILE"
BUILD_SECRET = Path("/run/secrets/hf_token")
HOW = f"in {VARIABLE}, or in a file named by {FILE_VARIABLE}, or as the build secret hf_token"


def read_token(environment: Mapping[str, str], secret: Path = BUILD_SECRET) -> SecretStr | None:
    """Return the token, or None where there is none.

    Raises:
        AccessDenied: A file that was named cannot be read, or what is there is no token.
    """
    if found := environment.get(VARIABLE, "").strip():
        return _checked(found, VARIABLE)
    if named := environment.get(FILE_VARIABLE):
        return _read_token(Path(named), FILE_VARIABLE)
    return _read_token(secret, str(secret)) if secret.is_file() else None


def _read_token(path: Path, source: str) -> SecretStr:
    try:
        return _checked(path.read_text(encoding="utf-8").strip(), source)
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessDenied(f"the token's file cannot be read ({source}): check its path") from exc


def _checked(token: str, source: str) -> SecretStr:
    """Refuse what could not be sent: an HTTP library would print it in its complaint."""
    if not token or not all("!" <= character <= "~" for character in token):
        raise AccessDenied(f"{source} holds no token: give it one line, as the hub shows it")
    return SecretStr(token)


T = TypeVar("T")

TIMEOUTS_S = (10.0, 60.0)
ATTEMPTS = 6
LONGEST_WAIT_S = 30.0
PASSING = {408, 425, 429, 500, 502, 503, 504}


@dataclass
class Interrupted(Exception):
    """The request failed in a way that may pass."""

    reason: str
    wait_s: float | None = None


@dataclass
class Refused(BuildError):
    """The server said no, and would again."""

    status: int
    code: str
    url: str

    def __str__(self) -> str:
        code = f", {self.code}" if self.code else ""
        return f"{self.url} was refused ({self.status}{code}): check the pin, or the place"


@dataclass(frozen=True)
class _Bearer(AuthBase):
    """Sends the token, or nothing: without this, requests would look into a .netrc file."""

    token: SecretStr | None

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.token is not None:
            request.headers["Authorization"] = f"Bearer {self.token.get_secret_value()}"
        return request


@contextmanager
def ask(
    url: str, token: SecretStr | None = None, *, offset: int = 0, method: str = "GET"
) -> Iterator[requests.Response]:
    """Send one request; redirects are followed, to another host without the token.

    Args:
        url: Absolute.
        token: Sent along if there is one.
        offset: The first byte that is wanted.
        method: ``GET`` or ``HEAD``.

    Yields:
        The answer, its body not read yet.

    Raises:
        Interrupted: No connection, a broken or silent one, or a server that is busy.
        Refused: Any other answer from 400 on.
    """
    headers = {"Accept-Encoding": "identity", "User-Agent": "bucketscribe-builder"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    try:
        with (
            requests.Session() as session,
            session.request(
                method,
                url,
                headers=headers,
                auth=_Bearer(token),
                stream=True,
                timeout=TIMEOUTS_S,
                allow_redirects=True,
            ) as answer,
        ):
            _check_answer(answer, url)
            yield answer
    except (requests.RequestException, HTTPError) as exc:
        host = urlsplit(url).netloc
        raise Interrupted(f"{host} does not answer ({type(exc).__name__})") from exc


def _check_answer(answer: requests.Response, url: str) -> None:
    if answer.status_code < 400:
        return
    if answer.status_code in PASSING:
        given = answer.headers.get("Retry-After", "")
        wait_s = min(float(given), 10 * LONGEST_WAIT_S) if given.isdigit() else None
        raise Interrupted(f"{urlsplit(url).netloc} answers {answer.status_code}", wait_s)
    code = answer.headers.get("X-Error-Code", "")
    raise Refused(answer.status_code, code, url.partition("?")[0])


def persist(
    attempt: Callable[[], T],
    sleep: Callable[[float], object],
    progress: Callable[[], int] = lambda: 0,
) -> T:
    """Try again after interruptions, waiting longer each time, as long as something comes of it.

    Args:
        attempt: May raise `Interrupted`.
        sleep: Waits for so many seconds.
        progress: Grows when an attempt got something; that starts the count anew.

    Raises:
        Unreachable: `ATTEMPTS` in a row got nothing.
    """
    idle = 0
    while True:
        before = progress()
        try:
            return attempt()
        except Interrupted as exc:
            idle = 1 if progress() > before else idle + 1
            if idle >= ATTEMPTS:
                remedy = "check the network, a proxy's HTTPS_PROXY, or try later"
                raise Unreachable(f"{exc.reason}, {ATTEMPTS} times: {remedy}") from exc
            sleep(min(2.0 ** (idle - 1), LONGEST_WAIT_S) if exc.wait_s is None else exc.wait_s)


PATTERNS: dict[str, tuple[str, ...]] = {
    # As faster_whisper.utils.download_model chooses them.
    "whisper": (
        "config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*",
    ),
    "diarization": ("config.yaml", "segmentation/*.bin", "embedding/*.bin", "plda/*.npz"),
    # What Wav2Vec2Processor and Wav2Vec2ForCTC read; language models and other frameworks' weights
    # stay behind.
    "align": (
        "config.json", "preprocessor_config.json", "tokenizer_config.json", "vocab.json",
        "special_tokens_map.json", "added_tokens.json", "model.safetensors", "pytorch_model.bin",
    ),
}  # fmt: skip
NEEDED: dict[str, tuple[str, ...]] = {
    "whisper": ("config.json", "model.bin", "tokenizer.json", "vocabulary.*"),
    "diarization": PATTERNS["diarization"],
    "align": ("config.json", "preprocessor_config.json", "vocab.json", "*.bin|*.safetensors"),
}


@dataclass(frozen=True)
class RemoteFile:
    """A file to download, and where in the models folder it goes."""

    model: HubModel
    name: str
    url: str
    digest: Digest | None
    size_bytes: int | None

    @property
    def to(self) -> str:
        """The path in the models folder."""
        return (
            f"{self.model.folder}/{self.name.rpartition('/')[2] if self.model.file else self.name}"
        )


@dataclass(frozen=True)
class Listing:
    """The files of one model, and the revision that they are of; None for a plain file."""

    model: HubModel
    revision: str | None
    files: tuple[RemoteFile, ...]


class _Lfs(BaseModel):
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class _Sibling(BaseModel):
    rfilename: str
    size: int = Field(ge=0)
    blobId: str = Field(pattern="^[0-9a-f]{40}$")  # noqa: N815  # the hub's name
    lfs: _Lfs | None = None


class _Revision(BaseModel):
    sha: str = Field(pattern="^[0-9a-f]{40}$")
    siblings: tuple[_Sibling, ...]


def list_files(
    model: HubModel, places: Places, token: SecretStr | None, sleep: Callable[[float], object]
) -> Listing:
    """List what a model needs.

    Raises:
        WrongBytes: The hub lists other bytes than are pinned, or another revision.
        AccessDenied: The hub wants a token, or another one.
        Unreachable: The hub does not answer, or does not have the model or its files.
    """
    if model.file is not None:
        return _plain(model, places)
    asked = model.revision or "main"
    url = f"{places.hub}/api/models/{model.repo}/revision/{asked}?blobs=true"
    found = _read(model, persist(lambda: _json(url, model, token), sleep))
    if model.revision not in (None, found.sha):
        raise WrongBytes(f"{model.repo}: the hub answers with revision {found.sha}, not {asked}")
    chosen = _choose(model, found)
    files = tuple(_remote(model, found.sha, sibling, places) for sibling in chosen)
    return Listing(model, found.sha, files)


def check_access(
    listing: Listing, token: SecretStr | None, sleep: Callable[[float], object]
) -> None:
    """Ask for a gated model's smallest file, before gigabytes of others are fetched.

    Raises:
        AccessDenied: The token's owner has not accepted the licence.
    """
    smallest = min(listing.files, key=lambda file: file.size_bytes or 0)

    def head() -> None:
        with ask(smallest.url, token, method="HEAD"):
            pass

    try:
        persist(head, sleep)
    except Refused as exc:
        raise explain(exc, listing.model, token) from exc


def explain(refusal: Refused, model: HubModel, token: SecretStr | None) -> BuildError:
    """Say what a hub's refusal means for this model, and what helps."""
    page = f"https://huggingface.co/{model.repo}"
    if model.repo is None or refusal.status not in (401, 403, 404):
        return Unreachable(f"{model.name}: {refusal}")
    if refusal.status == 404:
        what = refusal.code or "nothing there"
        return Unreachable(f"{model.repo}: the hub has it not ({what}): look at {page}")
    if token is None:
        return AccessDenied(
            f"{model.repo} is gated: accept its licence at {page}, then give a token of that "
            f"account {HOW}"
        )
    if refusal.code == "GatedRepo" or refusal.status == 403:
        return AccessDenied(
            f"{model.repo} is gated and the token's account may not have it: accept its licence "
            f"at {page}, and let the token read public gated repositories"
        )
    return AccessDenied(f"{model.repo}: the hub takes the token for invalid: give another {HOW}")


def _json(url: str, model: HubModel, token: SecretStr | None) -> Any:
    try:
        with ask(url, token if model.gated else None) as answer:
            return answer.json()
    except requests.JSONDecodeError as exc:
        raise Unreachable(f"{model.repo}: no hub answers there: check HF_ENDPOINT") from exc
    except Refused as exc:
        raise explain(exc, model, token if model.gated else None) from exc


def _read(model: HubModel, document: Any) -> _Revision:
    try:
        return _Revision.model_validate(document)
    except ValidationError as exc:
        raise Unreachable(f"{model.repo}: its listing cannot be read: check HF_ENDPOINT") from exc


def _choose(model: HubModel, found: _Revision) -> list[_Sibling]:
    """Keep what the kind of model needs; safetensors rather than the same weights pickled."""
    chosen = [
        sibling
        for sibling in found.siblings
        if any(fnmatch(sibling.rfilename, pattern) for pattern in PATTERNS[model.kind])
        and ".." not in sibling.rfilename
    ]
    names = [sibling.rfilename for sibling in chosen]
    if "model.safetensors" in names:
        chosen = [sibling for sibling in chosen if sibling.rfilename != "pytorch_model.bin"]
    for wanted in (*NEEDED[model.kind], *model.sha256):
        if not any(fnmatch(name, one) for name in names for one in wanted.split("|")):
            raise Unreachable(f"{model.repo} has no {wanted} at {found.sha}: check its revision")
    return chosen


def _remote(model: HubModel, revision: str, sibling: _Sibling, places: Places) -> RemoteFile:
    name = sibling.rfilename
    listed = sibling.lfs and sibling.lfs.sha256
    pinned = model.sha256.get(name)
    if listed and pinned and listed != pinned:
        raise WrongBytes(
            f"{model.repo}: {name} is listed with SHA-256 {listed}, pinned is {pinned}: "
            "do not use it before you know why"
        )
    sha256 = pinned or listed
    digest = Digest("sha256", sha256) if sha256 else Digest("git", sibling.blobId)
    url = f"{places.hub}/{model.repo}/resolve/{revision}/{quote(name)}"
    return RemoteFile(model, name, url, digest, sibling.size)


def _plain(model: HubModel, places: Places) -> Listing:
    name = model.file or ""
    base = places.torchaudio if model.torchaudio_bundle else places.nltk
    digest = Digest("sha256", model.sha256[name]) if name in model.sha256 else None
    file = RemoteFile(model, name, f"{base}/{quote(name)}", digest, model.file_bytes)
    return Listing(model, None, (file,))


BLOCK_BYTES = 1 << 18


class Cancelled(Exception):
    """Another download failed; this one is not needed any more."""


def download(
    file: RemoteFile,
    path: Path,
    token: SecretStr | None,
    *,
    on_bytes: Callable[[int], object],
    sleep: Callable[[float], object],
    stop: Event,
) -> None:
    """Fetch a file and check it.

    Args:
        file: What to fetch.
        path: Where to; what is there already is taken for the file's beginning, unless there is
            no checksum to find out whether it was.
        token: Sent along for a gated model.
        on_bytes: Told how many bytes more are on the disk, below zero when some were dropped.
        sleep: Waits for so many seconds.
        stop: Set when the file is not wanted any more.

    Raises:
        WrongBytes: It has another checksum or length; it is removed.
        DiskFull: There is no room for it.
        Unreachable: The server does not answer, or has not got it.
        AccessDenied: The hub does not let this token have it.
        Cancelled: `stop` was set.
    """
    known = token if file.model.gated else None
    if file.digest is None:
        path.unlink(missing_ok=True)
    with named_when_full(path.parent), path.open("ab", buffering=0) as stream:
        on_bytes(stream.tell())

        def attempt() -> None:
            _attempt(file, stream, known, on_bytes, stop)

        try:
            persist(attempt, sleep, stream.tell)
        except Refused as exc:
            raise explain(exc, file.model, known) from exc
        except WrongBytes:
            path.unlink()
            raise
    _check(file, path)


def _attempt(
    file: RemoteFile,
    stream: FileIO,
    token: SecretStr | None,
    on_bytes: Callable[[int], object],
    stop: Event,
) -> None:
    """Append what is missing, as far as the connection holds."""
    offset = stream.tell()
    if offset == file.size_bytes:
        return
    server = urlsplit(file.url).netloc

    def begin_anew() -> None:
        on_bytes(-stream.tell())
        stream.truncate(0)
        stream.seek(0)

    try:
        with ask(file.url, token, offset=offset) as answer:
            if offset and answer.status_code == 200:
                begin_anew()
            length = _length(answer)
            _check_length(file, length)
            if length is None or not _goes_on_at(answer, stream.tell()):
                begin_anew()
                raise Interrupted(f"{server} does not say what it sends")
            # What has arrived, rather than whole blocks: a cut costs nothing that was received.
            while block := answer.raw.read1(BLOCK_BYTES):
                if stop.is_set():
                    raise Cancelled
                _write(stream, block)
                on_bytes(len(block))
    except Refused as exc:
        if exc.status != 416:
            raise
        begin_anew()
        raise Interrupted(f"{server} has no byte {offset}") from exc


def _length(answer: requests.Response) -> int | None:
    """Return the length of the whole file, of which a part may be on its way."""
    if answer.status_code == 206:  # Content-Range: bytes FIRST-LAST/TOTAL
        given = answer.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        given = answer.headers.get("Content-Length", "")
    return int(given) if given.isdigit() else None


def _goes_on_at(answer: requests.Response, offset: int) -> bool:
    given = answer.headers.get("Content-Range", "")
    return offset == 0 or given.startswith(f"bytes {offset}-")


def _check_length(file: RemoteFile, length: int | None) -> None:
    if None not in (length, file.size_bytes) and length != file.size_bytes:
        raise WrongBytes(
            f"{file.to}: the server has {length} bytes, {file.size_bytes} are expected: "
            "check the pin, or the place it comes from"
        )


def _write(stream: FileIO, block: bytes) -> None:
    """Write all of a block; an unbuffered file may take less at a time."""
    rest = memoryview(block)
    while rest:
        rest = rest[stream.write(rest) :]


def _check(file: RemoteFile, path: Path) -> None:
    if file.digest is None or file.digest.fits(path):
        return
    found = file.digest.of(path)
    path.unlink()
    raise WrongBytes(
        f"{file.to} from {urlsplit(file.url).netloc} has {file.digest.algorithm} {found}, not "
        f"{file.digest.value}: it was removed; run again, and if it stays so do not trust the place"
    )


EVERY_S = 10.0


@dataclass
class ProgressLines:
    """Counts bytes from several threads and writes lines.

    Args:
        write: Takes a line.
        clock: Seconds that never go back.
    """

    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _total: int = 0
    _done: int = 0
    _fetched: int = 0
    _started_s: float = 0.0
    _shown_s: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def start(self, total_bytes: int, present: int) -> None:
        """Say what is to be done.

        Args:
            total_bytes: Of the files to fetch, as far as known.
            present: How many files need not be fetched.
        """
        self._total = total_bytes
        self._started_s = self._shown_s = self.clock()
        there = f"; {present} files are there already" if present else ""
        self.write(f"{human(total_bytes)} to fetch{there}")

    def add(self, count: int) -> None:
        """Count bytes; below zero: they were dropped."""
        with self._lock:
            self._done += count
            self._fetched += max(count, 0)
            now_s = self.clock()
            if now_s - self._shown_s >= EVERY_S:
                self._shown_s = now_s
                self.write(self._line(now_s))

    def finished(self, name: str, size_bytes: int) -> None:
        """Name a file that is there and checked."""
        with self._lock:
            self.write(f"  {name} ({human(size_bytes)})")

    def _line(self, now_s: float) -> str:
        share = f"{min(100 * self._done // self._total, 100)} %, " if self._total else ""
        speed = self._fetched / max(now_s - self._started_s, 1e-9)
        return f"  … {share}{human(self._done)} of {human(self._total)}, {human(int(speed))}/s"


def human(count: int) -> str:
    """Write a number of bytes as people read it: 999 B, 1.5 MB, 3.1 GB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


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

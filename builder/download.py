"""Download models from a hub and from plain URLs, and check every byte.

Takes pins and mirrors; returns where each file lies. `huggingface_hub` transfers the files: it
resumes, and fetches several at a time. It compares only lengths, so each file is compared here
with the SHA-256 or git id of the listed revision. Raises `AccessDenied`, `Unreachable`,
`WrongBytes` and `DiskFull`; no message or log line holds the token or a signed URL.
"""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlsplit

import requests
from huggingface_hub import (
    HfApi,
    configure_http_backend,
    constants,
    get_hf_file_metadata,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.file_download import http_get
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils.tqdm import disable_progress_bars
from pydantic import SecretStr

from builder.errors import AccessDenied, BuildError, DiskFull, Unreachable, WrongBytes
from builder.folders import REMEDY, Digest, named_when_full
from builder.pins import HubModel, Mirrors

T = TypeVar("T")

BUILD_SECRET = Path("/run/secrets/hf_token")
HOW = "in HF_TOKEN, or in a file named by HF_TOKEN_FILE, or as the build secret hf_token"
ATTEMPTS = 6
LONGEST_WAIT_S = 30.0
BUSY = {408, 425, 429, 500, 502, 503, 504}
PARTIAL = ".incomplete"
"""How the hub's client names a file that it has not finished."""

PATTERNS: dict[str, tuple[str, ...]] = {
    # As faster_whisper.utils.download_model chooses them.
    "whisper": (
        "config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*",
    ),
    "diarization": ("config.yaml", "segmentation/*.bin", "embedding/*.bin", "plda/*.npz"),
    # What Wav2Vec2Processor and Wav2Vec2ForCTC read; language models and other frameworks' weights
    # are not downloaded.
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
    """A file to download: its name at its origin, and its path in the models folder."""

    name: str
    to: str
    digest: Digest | None
    size_bytes: int | None


@dataclass(frozen=True)
class Listing:
    """The files of one model, and the revision that they are of; None for a plain file."""

    model: HubModel
    revision: str | None
    files: tuple[RemoteFile, ...]


class Interrupted(Exception):
    """An attempt failed in a way that may pass; `wait_s`: the server said how long that takes."""

    wait_s: float | None = None


def read_token(environment: Mapping[str, str], secret: Path = BUILD_SECRET) -> SecretStr | None:
    """Return the hub's token, or None: never one that somebody left in a home directory.

    Raises:
        AccessDenied: A file that was named cannot be read, or what is there is no token.
    """
    token, named = environment.get("HF_TOKEN", "").strip(), environment.get("HF_TOKEN_FILE")
    source = "HF_TOKEN" if token else "HF_TOKEN_FILE" if named else str(secret)
    if not token and not named and not secret.is_file():
        return None
    try:
        token = token or Path(named or secret).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise AccessDenied(f"the token's file cannot be read ({source}): check its path") from exc
    # What cannot be sent is refused here: an HTTP library would print it in its error.
    if not token or not all("!" <= character <= "~" for character in token):
        raise AccessDenied(f"{source} holds no token: give it one line, as the hub shows it")
    return SecretStr(token)


def _configure() -> None:
    """Have the hub's client report nothing, log no signed URL and use one protocol: HTTP."""
    constants.HF_HUB_DISABLE_TELEMETRY = constants.HF_HUB_DISABLE_XET = True
    constants.HF_HUB_ENABLE_HF_TRANSFER = False  # it does not resume
    constants.DOWNLOAD_CHUNK_SIZE = 1 << 20  # what a cut costs at most; upstream: 10 MB
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it warns with signed URLs
    if not sys.stderr.isatty():
        disable_progress_bars()
    configure_http_backend(_session)


def _session() -> requests.Session:
    """Without an `auth`, requests would replace the token by a password out of ~/.netrc."""
    session = requests.Session()
    session.auth = lambda request: request
    return session


@dataclass
class Downloader:
    """Lists and downloads models; what it has already is not downloaded again.

    Args:
        store: Where downloads go until the folder is assembled; partial ones are resumed.
        older: A models folder that an earlier run made, or that does not exist.
        mirrors: Where to download from.
        token: The hub's; sent to the hub alone, and for gated models alone.
        write: Takes the lines of the build log.
    """

    store: Path
    older: Path
    mirrors: Mirrors
    token: SecretStr | None
    write: Callable[[str], object]
    _api: HfApi = field(init=False)

    def __post_init__(self) -> None:
        _configure()
        self._api = HfApi(self.mirrors.hub, token=False, library_name="bucketscribe-builder")

    def list_files(self, model: HubModel) -> Listing:
        """List what a model needs, and make sure that a gated one may be had.

        Raises:
            WrongBytes: The hub lists other bytes than are pinned, or another revision.
            AccessDenied: The hub wants a token, or the licence accepted.
            Unreachable: The hub does not answer, or does not have the model or its files.
        """
        if model.file is not None:
            sha256 = model.sha256.get(model.file)
            digest = Digest("sha256", sha256) if sha256 else None
            to = f"{model.folder}/{model.file.rpartition('/')[2]}"
            plain = RemoteFile(model.file, to, digest, model.file_bytes)
            return Listing(model, None, (plain,))
        listing = _list(model, self._persist(model, lambda: self._ask(model)))
        if model.gated:  # the hub lists gated repositories to everybody and refuses only files
            smallest = min(listing.files, key=lambda file: file.size_bytes or 0).name
            repo, revision, hub = model.repo or "", listing.revision, self.mirrors.hub
            url = hf_hub_url(repo, smallest, revision=revision, endpoint=hub)
            token = self._token_for(model)
            self._persist(model, lambda: get_hf_file_metadata(url, token=token))
        return listing

    def fetch(self, listings: Sequence[Listing]) -> dict[str, Path]:
        """Download what is missing; return where each file lies, by its path in the models folder.

        Raises:
            DiskFull: There is not enough room; nothing was downloaded, where that is known before.
            BuildError: A file could not be downloaded; what arrived before stays in the store.
        """
        found = {f.to: p for x in listings for f in x.files if (p := self._have(x, f)) is not None}
        missing = [(x, [f for f in x.files if f.to not in found]) for x in listings]
        self.store.mkdir(parents=True, exist_ok=True)
        self._check_room(missing)
        for listing, files in missing:
            if files:
                self._fetch(listing, files)
                found |= {file.to: self._folder(listing) / file.name for file in files}
        return found

    def _ask(self, model: HubModel) -> ModelInfo:
        try:
            return self._api.model_info(
                model.repo or "",
                revision=model.revision or "main",
                files_metadata=True,
                token=self._token_for(model),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise Unreachable(f"{model.repo}: no hub answers there: check HF_ENDPOINT") from exc

    def _token_for(self, model: HubModel) -> str | bool:
        return self.token.get_secret_value() if self.token and model.gated else False

    def _fetch(self, listing: Listing, files: list[RemoteFile]) -> None:
        """Download a model's missing files and check them."""
        size = human(sum(file.size_bytes or 0 for file in files))
        self.write(f"{listing.model.folder}: {len(files)} files to download, {size}")
        folder = self._folder(listing)
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:  # what is there has other bytes; a part without a digest may have
            (folder / file.name).unlink(missing_ok=True)
            if file.digest is None:
                _drop_partials(folder)
        with named_when_full(self.store):
            get = self._get_plain if listing.revision is None else self._get_repository
            self._persist(listing.model, lambda: get(listing, files), folder)
        for file in files:
            self._check(listing, file)

    def _get_repository(self, listing: Listing, files: list[RemoteFile]) -> None:
        folder = self._folder(listing)
        snapshot_download(
            listing.model.repo or "",
            revision=listing.revision,
            local_dir=folder,
            allow_patterns=[file.name for file in files],
            endpoint=self.mirrors.hub,
            token=self._token_for(listing.model),
            max_workers=4,
            library_name="bucketscribe-builder",
        )
        for file in files:  # without a network, the client takes what is there for everything
            if not (folder / file.name).is_file():
                raise Interrupted(f"{urlsplit(self.mirrors.hub).netloc} sends no {file.name}")

    def _get_plain(self, listing: Listing, files: list[RemoteFile]) -> None:
        model, file = listing.model, files[0]
        base = self.mirrors.torchaudio if model.torchaudio_bundle else self.mirrors.nltk
        target = self._folder(listing) / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(target.name + PARTIAL)
        with partial.open("ab") as stream:
            http_get(
                f"{base}/{quote(file.name)}",
                stream,
                resume_size=stream.tell(),
                headers={"Accept-Encoding": "identity"},
                expected_size=file.size_bytes,
                displayed_filename=file.name,
            )
        partial.rename(target)

    def _persist(self, model: HubModel, attempt: Callable[[], T], folder: Path | None = None) -> T:
        """Try again after interruptions, until `ATTEMPTS` in a row brought nothing."""
        idle, arrived = 0, _bytes_in(folder)
        while True:
            try:
                with self._translated(model, folder):
                    return attempt()
            except Interrupted as exc:
                before, arrived = arrived, _bytes_in(folder)
                idle = 1 if arrived > before else idle + 1
                if idle == ATTEMPTS:
                    remedy = "check the network, a proxy's HTTPS_PROXY, or try later"
                    raise Unreachable(f"{exc}, {ATTEMPTS} times: {remedy}") from exc
                wait_s = exc.wait_s or min(2.0 ** (idle - 1), LONGEST_WAIT_S)
                self.write(f"{exc}: trying again in {wait_s:.0f} s")
            time.sleep(wait_s)

    @contextmanager
    def _translated(self, model: HubModel, folder: Path | None) -> Iterator[None]:
        """Say in our words what the hub's client and requests raise: all of it is an OSError."""
        try:
            yield
        except OSError as exc:
            if exc.errno is not None:  # of the file system
                raise
            # What the client could not look up it calls absent; the cause is what happened.
            cause = exc.__cause__ if isinstance(exc, LocalEntryNotFoundError) else exc
            host = urlsplit(getattr(getattr(cause, "request", None), "url", None) or "").netloc
            answer: requests.Response | None = getattr(cause, "response", None)
            status = 0 if answer is None else answer.status_code
            if folder and (type(cause) is OSError or status == 416):
                _drop_partials(folder)  # longer than the file, or of something else
                raise Interrupted(f"{model.name} does not arrive in the listed length") from exc
            if answer is None:
                name = type(cause).__name__
                raise Interrupted(f"{host or model.name} does not answer ({name})") from exc
            if status in BUSY:
                interrupted = Interrupted(f"{host} answers {status}")
                given = answer.headers.get("Retry-After", "")
                interrupted.wait_s = min(float(given), 300.0) if given.isdigit() else None
                raise interrupted from exc
            raise self._explain(answer, model, host) from exc

    def _explain(self, answer: requests.Response, model: HubModel, host: str) -> BuildError:
        """Say what a refusal means for this model, and what helps."""
        status, code = answer.status_code, answer.headers.get("X-Error-Code", "")
        if model.repo is None or status not in (401, 403, 404):
            return Unreachable(f"{model.name}: {host} answers {status}: check the pin, or its URL")
        page = f"https://huggingface.co/{model.repo}"
        if status == 404 or code == "RepoNotFound":
            what = code or "nothing there"
            return Unreachable(f"{model.repo} is not on the hub ({what}): look at {page}")
        if not self._token_for(model):
            return AccessDenied(tell_gated(model))
        if code == "GatedRepo" or status == 403:
            return AccessDenied(
                f"{model.repo} is gated and the token's account may not have it: accept its "
                f"licence at {page}, and let the token read public gated repositories"
            )
        return AccessDenied(f"{model.repo}: the hub rejects the token: give another {HOW}")

    def _check(self, listing: Listing, file: RemoteFile) -> None:
        path = self._folder(listing) / file.name
        if file.digest is None or file.digest.fits(path):
            return
        found = file.digest.of(path)
        path.unlink()
        raise WrongBytes(
            f"{file.to} has {file.digest.algorithm} {found}, not {file.digest.value}: it was "
            "removed; run again, and if it stays so do not trust the server or its mirror"
        )

    def _have(self, listing: Listing, file: RemoteFile) -> Path | None:
        """Find a file whose bytes are known to be right."""
        if file.digest is None:
            return None
        here = (self.older / file.to, self._folder(listing) / file.name)
        return next((path for path in here if file.digest.fits(path)), None)

    def _folder(self, listing: Listing) -> Path:
        """Name a model's downloads so that a part of another revision is not resumed."""
        model = listing.model
        pin = listing.revision or model.sha256.get(model.file or "", "unpinned")
        return self.store / f"{model.name}-{pin[:12]}"

    def _check_room(self, missing: list[tuple[Listing, list[RemoteFile]]]) -> None:
        needed = sum(file.size_bytes or 0 for _, files in missing for file in files)
        needed -= sum(_bytes_in(self._folder(x), "*" + PARTIAL) for x, _ in missing)
        free = shutil.disk_usage(self.store).free
        if needed > free:
            raise DiskFull(
                f"{human(needed)} have to be downloaded and {self.store.parent} has {human(free)} "
                f"free: {REMEDY}"
            )


def tell_gated(model: HubModel) -> str:
    """Say what a gated model needs."""
    return (
        f"{model.repo} is gated: accept its licence at https://huggingface.co/{model.repo}, "
        f"then give a token of that account {HOW}"
    )


def human(count: int) -> str:
    """Write a number of bytes as megabytes."""
    return f"{count / 1e6:,.1f} MB"


def _list(model: HubModel, info: ModelInfo) -> Listing:
    """Keep what the kind of model needs; safetensors rather than the same weights pickled."""
    siblings = info.siblings or []
    if not info.sha or any(not (x.lfs or x.blob_id) for x in siblings):
        raise Unreachable(f"{model.repo}: its listing has no checksums: check HF_ENDPOINT")
    if model.revision not in (None, info.sha):
        raise WrongBytes(
            f"{model.repo}: the hub answers with revision {info.sha}, not {model.revision}"
        )
    chosen = {
        x.rfilename: x
        for x in siblings
        if any(fnmatch(x.rfilename, pattern) for pattern in PATTERNS[model.kind])
        and ".." not in x.rfilename
    }
    if "model.safetensors" in chosen:
        chosen.pop("pytorch_model.bin", None)
    for wanted in (*NEEDED[model.kind], *model.sha256):
        if not any(fnmatch(name, one) for name in chosen for one in wanted.split("|")):
            raise Unreachable(f"{model.repo} has no {wanted} at {info.sha}: check its revision")
    return Listing(model, info.sha, tuple(_remote_file(model, x) for x in chosen.values()))


def _remote_file(model: HubModel, sibling: RepoSibling) -> RemoteFile:
    name = sibling.rfilename
    listed, pinned = sibling.lfs and sibling.lfs.sha256, model.sha256.get(name)
    if listed and pinned and listed != pinned:
        raise WrongBytes(
            f"{model.repo}: {name} is listed with SHA-256 {listed}, pinned is {pinned}: "
            "do not use it before you know why"
        )
    sha256 = pinned or listed
    digest = Digest("sha256", sha256) if sha256 else Digest("git", sibling.blob_id or "")
    return RemoteFile(name, f"{model.folder}/{name}", digest, sibling.size)


def _bytes_in(folder: Path | None, pattern: str = "*") -> int:
    files = folder.rglob(pattern) if folder else ()
    return sum(path.stat().st_size for path in files if path.is_file())


def _drop_partials(folder: Path) -> None:
    for path in folder.rglob("*" + PARTIAL):
        path.unlink()

"""What a model's files are, and where: a repository of a hub, or one plain file.

Speaks the part of the Hugging Face Hub's protocol that a download needs: the listing of a
revision, with SHA-256 of large files and git's id of small ones, and `resolve`, which redirects
to where the bytes are. The official client is not used for the bytes: it compares no checksum,
gives up when a connection is closed early, and reads its offline switch at import, which the rest
of this package sets. The tests hold both against the same server.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any
from urllib.parse import quote

import requests
from pydantic import BaseModel, Field, SecretStr, ValidationError

from builder.digests import Digest
from builder.errors import AccessDenied, BuildError, Unreachable, WrongBytes
from builder.hub_token import HOW
from builder.pins import HubModel
from builder.places import Places
from builder.wire import Refused, ask, persist

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

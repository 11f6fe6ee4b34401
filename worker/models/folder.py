"""Models folder: settings in, the first folder out that has each file of its ``profile.json``.

``builder.fetch_models`` writes that file. A model that a folder lacks is taken from RunPod's model
cache where that holds its very revision, whole: no folder, and no model, is used half. Raises
`WorkerError` ``MODEL_UNAVAILABLE`` that says of each folder what it lacks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from bucketscribe_contract import FailureCode, Stage
from worker.errors import WorkerError
from worker.settings import WorkerSettings

_CACHE = Path("huggingface-cache", "hub")  # docs.runpod.io/serverless/endpoints/model-caching
_NAMED = 3  # files that a message names
_PICKLED = (".bin", ".ckpt", ".npz", ".pt", ".pth")
_READ_EARLY_BYTES = 64_000_000


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ModelEntry(_Entry):
    """One model, at a path relative to the folder."""

    path: str
    name: str


class AlignEntry(ModelEntry):
    """An aligner: a folder as Hugging Face keeps it, or a torchaudio bundle's weights in one."""

    kind: Literal["huggingface", "torchaudio"] = "huggingface"


class WhisperEntry(_Entry):
    """One Whisper model; ``languages`` None: all that Whisper speaks."""

    path: str
    languages: tuple[str, ...] | None = None


class WhisperEntries(_Entry):
    """Whisper models by name, and the one that is used unless another is asked for."""

    default: str
    models: dict[str, WhisperEntry]


class FileEntry(_Entry):
    """What a file of the folder weighs, and its digest."""

    bytes: int
    sha256: str = ""


class Pin(_Entry):
    """Where a model's files were fetched from."""

    repo: str | None = None


class Source(_Entry):
    """Which revision of which repository a model is; neither, if it is from no hub."""

    pin: Pin = Pin()
    revision: str | None = None


class Profile(_Entry):
    """The models folder's table of contents.

    Attributes:
        files: Every file by its path in the folder.
        provenance: Where each model is from, by the folder that it lies in.
    """

    profile: str
    whisper: WhisperEntries
    vad: ModelEntry
    align: dict[str, AlignEntry]
    diarization: ModelEntry
    nltk_data: str
    files: dict[str, FileEntry] = {}
    provenance: dict[str, Source] = {}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the folder's profile.

        Raises:
            WorkerError: ``MODEL_UNAVAILABLE`` when there is none, or it is damaged.
        """
        path = folder / "profile.json"
        try:
            return cls.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as exc:
            raise unavailable(
                f"{path.name} of MODELS_DIR ({folder}) cannot be read ({type(exc).__name__}); "
                "make the folder with python -m builder.fetch_models"
            ) from exc


@dataclass(frozen=True)
class ModelsFolder:
    """A complete models folder.

    Attributes:
        path: Where.
        profile: Its contents.
        whisper_name: Which Whisper model is used.
        passed_over: What was wrong with the folders that would have gone before.
        cached: Models that the folder lacks, and the model cache's snapshots of them.
    """

    path: Path
    profile: Profile
    whisper_name: str
    passed_over: tuple[str, ...] = ()
    cached: Mapping[str, Path] = field(default_factory=dict)

    def __str__(self) -> str:
        """Say what is used, in one line."""
        cached = f", {', '.join(self.cached)} from the model cache" if self.cached else ""
        return f"models: {self.path} ({self.profile.profile}), Whisper {self.whisper_name}{cached}"

    @property
    def whisper(self) -> WhisperEntry:
        """The Whisper model that is used."""
        return self.profile.whisper.models[self.whisper_name]

    @property
    def weights_bytes(self) -> int:
        """Bytes of the models that a job has on the device, and of the largest aligner."""
        profile = self.profile
        aligners = {entry.path for entry in profile.align.values()}
        loaded = (self.whisper.path, profile.vad.path, profile.diarization.path)
        return sum(map(self._bytes, loaded)) + max(map(self._bytes, aligners), default=0)

    def _bytes(self, where: str) -> int:
        return sum(file.bytes for name, file in self.profile.files.items() if _is_in(name, where))

    def verify(self, where: str) -> None:
        """Compare what will be unpickled of a model with its SHA-256, however large it is.

        Raises:
            WorkerError: ``MODEL_UNAVAILABLE``: it is another file.
        """
        for name, entry in self.profile.files.items():
            is_read = _is_in(name, where) and Path(name).suffix in _PICKLED
            if is_read and not _has_digest(self.locate(name), entry):
                raise unavailable(
                    f"{name} is not the file that was pinned (SHA-256): make MODELS_DIR "
                    f"({self.path}) anew with python -m builder.fetch_models"
                )

    def locate(self, path: str) -> Path:
        """Return where a path of the profile lies: in this folder, or in the model cache."""
        for model, snapshot in self.cached.items():
            if _is_in(path, model):
                return snapshot / path.removeprefix(model).removeprefix("/")
        return self.path / path


def unavailable(message: str) -> WorkerError:
    """Return the failure for weights that are missing or do not load."""
    return WorkerError(FailureCode.MODEL_UNAVAILABLE, message, Stage.VALIDATE)


def find_models(settings: WorkerSettings) -> ModelsFolder:
    """Return the first models folder that is complete.

    They are looked at in this order: ``MODELS_VOLUME/models``, put on the endpoint's network
    volume; a repository of the model cache (``MODELS_VOLUME/huggingface-cache/hub``) that is such a
    folder; ``MODELS_DIR``, the image's own. Whisper models that were not asked for may be missing.

    Args:
        settings: Where to look, and which Whisper model is wanted.
    """
    volume, passed_over = settings.models_volume, []
    try:
        candidates = list(_on_volume(volume))
    except OSError as exc:
        candidates = []
        passed_over.append(f"MODELS_VOLUME ({volume}) cannot be read ({exc.strerror})")
    for path in (*candidates, settings.models_dir):
        try:
            return _complete(path, settings.whisper_model, volume / _CACHE, tuple(passed_over))
        except WorkerError as exc:
            passed_over.append(str(exc))
    raise unavailable("; ".join(passed_over))


def _on_volume(volume: Path) -> Iterator[Path]:
    if (volume / "models").is_dir():
        yield volume / "models"
    cached = (volume / _CACHE).glob("models--*/snapshots/*/profile.json")
    yield from sorted(path.parent for path in cached)


def _complete(
    folder: Path, wanted: str | None, cache: Path, passed_over: tuple[str, ...]
) -> ModelsFolder:
    profile = Profile.read(folder)
    name = wanted or profile.whisper.default
    if name not in profile.whisper.models:
        known = ", ".join(profile.whisper.models)
        raise unavailable(
            f"WHISPER_MODEL={name} is not in MODELS_DIR ({folder}): it has {known}; set one of "
            "these, or bake it with python -m builder.fetch_models"
        )
    others = {m.path for n, m in profile.whisper.models.items() if n != name}
    lacking = [
        file
        for file, entry in profile.files.items()
        if not (any(_is_in(file, o) for o in others) or _fits(folder / file, entry))
    ]
    incomplete = [w for w in profile.provenance if any(_is_in(file, w) for file in lacking)]
    models = {where: at for where in incomplete if (at := _cached(where, profile, cache))}
    left = [f for f in lacking if not any(_is_in(f, where) for where in models)]
    if left:
        more = f" and {len(left) - _NAMED} more" if len(left) > _NAMED else ""
        raise unavailable(
            f"MODELS_DIR ({folder}) is not whole: {', '.join(left[:_NAMED])}{more} missing or "
            "not as pinned; make it anew with python -m builder.fetch_models"
        )
    return ModelsFolder(folder, profile, name, passed_over, models)


def _cached(where: str, profile: Profile, cache: Path) -> Path | None:
    """Return the model cache's snapshot of a model, if it is all there.

    Args:
        where: The model's folder in the models folder.
        profile: Says what the model is.
        cache: As the hub's client keeps it: ``models--OWNER--NAME/snapshots/REVISION``.
    """
    source = profile.provenance[where]
    if source.pin.repo is None or source.revision is None:
        return None
    repo = f"models--{source.pin.repo.replace('/', '--')}".lower()  # some caches lower the case
    files = {n.removeprefix(f"{where}/"): f for n, f in profile.files.items() if _is_in(n, where)}
    with suppress(OSError):  # a volume that fails holds nothing
        for snapshot in cache.glob(f"models--*/snapshots/{source.revision}"):
            is_it = snapshot.parent.parent.name.lower() == repo
            if is_it and files and all(_fits(snapshot / n, f) for n, f in files.items()):
                return snapshot
    return None


def _fits(path: Path, entry: FileEntry) -> bool:
    """Whether a file has its size, and, if it is small and will be unpickled, its digest."""
    is_early = path.suffix in _PICKLED and entry.bytes <= _READ_EARLY_BYTES
    return _size(path) == entry.bytes and (not is_early or _has_digest(path, entry))


def _has_digest(path: Path, entry: FileEntry) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
    except OSError:
        return False


def _is_in(path: str, where: str) -> bool:
    return path == where or path.startswith(f"{where}/")


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None

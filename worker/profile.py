"""Read ``profile.json``: which models lie in the models folder, and where.

``builder.fetch_models`` writes it. A folder without it is no models folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from contract import FailureCode, Stage
from worker.errors import WorkerError


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
    """What a file of the folder weighs."""

    bytes: int


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


def unavailable(message: str) -> WorkerError:
    """Return the failure for weights that are missing or do not load."""
    return WorkerError(FailureCode.MODEL_UNAVAILABLE, message, Stage.VALIDATE)

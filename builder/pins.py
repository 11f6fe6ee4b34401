"""What a profile is made of and where it is downloaded from, read from `models.toml`.

Takes the name of a profile; returns frozen pins. Raises `BuildError`, whose message names the
entry, for an unknown profile or a file that does not follow the schema.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from builder.errors import BuildError

VARIABLES = {"hub": "HF_ENDPOINT", "torchaudio": "TORCHAUDIO_MODELS_URL", "nltk": "NLTK_DATA_URL"}
"""The environment variable that replaces each of `Mirrors`."""
MODELS_TOML = Path(__file__).with_name("models.toml")
REPOSITORY = "builder"
"""As a file's `package`: the file is part of this project, not of a distribution."""

Kind = Literal["whisper", "vad", "align", "diarization", "nltk_data"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Pinned(BaseModel):
    """The base of every pin: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Mirrors(Pinned):
    """Base URLs of repositories and plain files, without a slash at the end."""

    hub: str
    torchaudio: str
    nltk: str

    def overridden(self, environment: Mapping[str, str]) -> Self:
        """Return these URLs, or what the environment sets instead.

        Raises:
            BuildError: A URL is not https and not on this machine: a token would be sent in the
                clear; or it holds a password.
        """
        changes = {
            field: environment[variable].rstrip("/")
            for field, variable in VARIABLES.items()
            if environment.get(variable)
        }
        mirrors = self.model_copy(update=changes)
        for field, variable in VARIABLES.items():
            parts = urlsplit(getattr(mirrors, field))
            local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
            if not parts.hostname or parts.username or not (parts.scheme == "https" or local):
                raise BuildError(f"{variable} must be an https URL without a user or password")
        return mirrors


class Distribution(Pinned):
    """An installed distribution that weights are taken from."""

    version: str
    licence: str


class PinnedFile(Pinned):
    """One source file, and the file of the folder that it becomes or is joined into."""

    package: str
    file: str
    sha256: Sha256
    to: str


class PinnedModel(Pinned):
    """One model of the folder; files with the same `to` are joined in order."""

    kind: Kind
    name: str
    folder: str
    languages: tuple[str, ...] | None = None
    multilingual: bool = False
    files: tuple[PinnedFile, ...]


class PackageProfile(Pinned):
    """A profile that is assembled from installed packages alone."""

    distributions: dict[str, Distribution]
    models: tuple[PinnedModel, ...]

    def chosen(
        self, *, multilingual: bool, diarization: str | None = None
    ) -> tuple[PinnedModel, ...]:
        """Return the models to assemble; of the diarizations the one that is named, or the first.

        Raises:
            BuildError: There is no such diarization.
        """
        names = [m.name for m in self.models if m.kind == "diarization"]
        if diarization not in (None, *names):
            raise BuildError(f"no diarization {diarization!r}; choose one of {', '.join(names)}")
        others = {*names} - {diarization or names[0]}
        return tuple(
            m for m in self.models if m.name not in others and (multilingual or not m.multilingual)
        )


class HubModel(Pinned):
    """One model to download: a repository of a hub, or one plain file.

    A pin only with the 40 hex digits of a revision, or the SHA-256 of the plain file.
    """

    kind: Kind
    name: str
    licence: str
    gated: bool = False
    """The hub wants a token of somebody who accepted the licence."""
    languages: tuple[str, ...] | None = None
    repo: str | None = None
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    torchaudio_bundle: str | None = None
    torchaudio: str | None = None
    """The torchaudio version that the bundle's weights go with."""
    file: str | None = None
    """The plain file, relative to its mirror."""
    file_bytes: int | None = Field(default=None, ge=1)
    sha256: dict[str, Sha256] = {}
    """By file; those of a repository that are not named are checked against its listing."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.repo is None) == (self.file is None):
            raise ValueError(f"{self.name} needs either a repo or a file")
        return self

    @property
    def folder(self) -> str:
        """Where the model goes, relative to the models folder."""
        own = {"whisper": f"whisper/{self.name}", "align": f"align/{(self.languages or ('',))[0]}"}
        return own.get(self.kind, self.kind)

    @property
    def is_pinned(self) -> bool:
        """Whether two builds a year apart would get the same weights."""
        return bool(self.revision) if self.repo else self.file in self.sha256


class HubProfile(Pinned):
    """A profile whose weights come from hubs, except what installed packages hold."""

    mirrors: Mirrors
    packaged: PackageProfile
    models: tuple[HubModel, ...]


class _Pins(Pinned):
    demo: PackageProfile
    production: HubProfile


PROFILES = tuple(_Pins.model_fields)


def load_profile(name: str, path: Path = MODELS_TOML) -> PackageProfile | HubProfile:
    """Read one profile.

    Raises:
        BuildError: No such profile, or the file is not what `models.toml` should be.
    """
    if name not in PROFILES:
        raise BuildError(f"no profile {name!r}; choose one of {', '.join(PROFILES)}")
    try:
        pins = _Pins.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as exc:
        raise BuildError(f"{path} cannot be read: give an existing file with --pins") from exc
    except (ValidationError, tomllib.TOMLDecodeError) as exc:
        raise BuildError(f"{path.name} is not valid: {' '.join(str(exc).split())}") from exc
    return pins.demo if name == "demo" else pins.production

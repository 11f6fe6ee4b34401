"""Where plain files and repositories are fetched from; each can be a mirror instead.

A place is https; http is for this machine alone.
"""

from collections.abc import Mapping
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from builder.errors import PinError

VARIABLES = {"hub": "HF_ENDPOINT", "torchaudio": "TORCHAUDIO_MODELS_URL", "nltk": "NLTK_DATA_URL"}


class Places(BaseModel):
    """Base URLs, without a slash at the end."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hub: str
    torchaudio: str
    nltk: str

    def overridden(self, environment: Mapping[str, str]) -> Self:
        """Return these places with what the environment sets instead.

        Raises:
            PinError: A place is neither https nor on this machine.
        """
        places = self.model_copy(
            update={
                field: environment[variable].rstrip("/")
                for field, variable in VARIABLES.items()
                if environment.get(variable)
            }
        )
        for field, variable in VARIABLES.items():
            _check(getattr(places, field), variable)
        return places


def _check(url: str, variable: str) -> None:
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in {"127.0.0.1", "::1", "localhost"}
    if not parts.hostname or parts.username or not (parts.scheme == "https" or local):
        raise PinError(f"{variable} must be an https URL without a user or password")

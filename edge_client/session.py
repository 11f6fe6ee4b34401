"""A session: one recording's prefix in the bucket, ``users/U/audio/sessions/S``, and its keys.

`Session.parse` reads a prefix; `edge_client.services.edge` looks a bare name up. Raises `BadUsage`
for any other form.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from functools import cached_property

from edge_client.errors import BadUsage

USERS = "users/"
_FILE_NAME = re.compile(
    r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))\w[\w.-]{0,99}(?<!\.)", re.ASCII | re.IGNORECASE
)
_PREFIX = re.compile(r"users/(?P<user>[^/]+)/audio/sessions/(?P<name>[^/]+)", re.DOTALL)


def file_name(name: str) -> str:
    """Return the name itself if any file system takes it, else one that no other name becomes."""
    if _FILE_NAME.fullmatch(name):
        return name
    shown = re.sub(r"[^\w.-]", "_", name)[:48].strip(".-")
    return f"{shown}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _key(name: str) -> cached_property[str]:
    """Return the property that is the key of a session's object."""
    return cached_property(lambda session: f"{session.prefix}/{name}")


@dataclass(frozen=True)
class Session:
    """One recording's place in the bucket."""

    user: str
    name: str

    @classmethod
    def parse(cls, prefix: str) -> Session:
        """Read ``users/U/audio/sessions/S``, with or without a trailing slash."""
        match = _PREFIX.fullmatch(prefix.removesuffix("/"))
        if match is None:
            form = "give users/USER/audio/sessions/NAME, or the bare NAME"
            raise BadUsage(f"SESSION {prefix!r}: {form}")
        return cls(match["user"], match["name"])

    @cached_property
    def prefix(self) -> str:
        """The session's key prefix, without a trailing slash."""
        return f"users/{self.user}/audio/sessions/{self.name}"

    audio_key = _key("audio.wav")
    result_key = _key("transcription.json")
    claim_key = _key("transcription.job.json")
    """Which job was submitted for this session."""
    progress_key = _key("transcription.progress.json")
    """How far the job is, where that was asked for."""

    @cached_property
    def quoted(self) -> str:
        """The prefix as one shell word, for commands that people copy."""
        return shlex.quote(self.prefix)

    def __str__(self) -> str:
        return self.prefix

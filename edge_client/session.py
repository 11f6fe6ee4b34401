"""A session: one recording's prefix in the bucket, ``users/U/audio/sessions/S``, and its keys.

`Session.parse` reads a prefix; `resolve` also takes a bare name and looks for it under every user.
Raises `BadUsage`, `SessionNotFound` or `SessionAmbiguous`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from edge_client.errors import BadUsage, SessionAmbiguous, SessionNotFound

USERS = "users/"
_PREFIX = re.compile(r"users/(?P<user>[^/]+)/audio/sessions/(?P<name>[^/]+)", re.DOTALL)
_LOOKUPS_AT_ONCE = 8


class Listing(Protocol):
    """The two LIST calls that a lookup needs."""

    def folders(self, prefix: str) -> Iterator[str]:
        """Yield the prefixes one level below ``prefix``, each ending in a slash."""

    def has_any(self, prefix: str) -> bool:
        """Tell whether any key starts with ``prefix``."""


@dataclass(frozen=True)
class Session:
    """One recording's place in the bucket."""

    user: str
    name: str

    @classmethod
    def parse(cls, prefix: str) -> Session:
        """Read ``users/U/audio/sessions/S``, with or without a trailing slash.

        Raises:
            BadUsage: It has another form.
        """
        match = _PREFIX.fullmatch(prefix.removesuffix("/"))
        if match is None:
            raise BadUsage(
                f"SESSION {prefix!r}: give users/USER/audio/sessions/NAME, or the bare NAME"
            )
        return cls(match["user"], match["name"])

    @property
    def prefix(self) -> str:
        """The session's key prefix, without a trailing slash."""
        return f"users/{self.user}/audio/sessions/{self.name}"

    @property
    def audio_key(self) -> str:
        """The recording."""
        return f"{self.prefix}/audio.wav"

    @property
    def result_key(self) -> str:
        """The transcript."""
        return f"{self.prefix}/transcription.json"

    @property
    def claim_key(self) -> str:
        """Which job was submitted for this session."""
        return f"{self.prefix}/transcription.job.json"

    @property
    def progress_key(self) -> str:
        """How far the job is, where that was asked for."""
        return f"{self.prefix}/transcription.progress.json"

    @property
    def quoted(self) -> str:
        """The prefix as one shell word, for commands that people copy."""
        return shlex.quote(self.prefix)

    def __str__(self) -> str:
        return self.prefix


def resolve(text: str, listing: Listing) -> Session:
    """Turn what the user typed into a session.

    A prefix is taken as it is, with no call; a bare name costs a LIST of the users and one
    small LIST a user.

    Raises:
        BadUsage: Neither a session prefix nor a bare name.
        SessionNotFound: No user has it.
        SessionAmbiguous: Several have.
    """
    if "/" in text.strip("/") or not text.strip("/"):
        return Session.parse(text)
    found = _lookup(text.strip("/"), listing)
    if not found:
        raise SessionNotFound(
            f"no user has a session {text!r}: check the name and COGNITO_S3_BUCKET"
        )
    if len(found) > 1:
        raise SessionAmbiguous(text, tuple(s.prefix for s in found))
    return found[0]


def _lookup(name: str, listing: Listing) -> list[Session]:
    candidates = [Session(f.split("/")[1], name) for f in listing.folders(USERS)]
    with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as pool:
        present = pool.map(lambda s: listing.has_any(s.prefix + "/"), candidates)
        return [s for s, there in zip(candidates, present, strict=True) if there]

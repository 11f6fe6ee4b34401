"""Puts the objects of a listing together into sessions. Pure.

A listing's order differs between servers, but all of them keep a folder's keys together, so a
session is whole when a key of another place comes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from edge_client.batch.values import Found
from edge_client.layout import Session
from edge_client.storage import ObjectInfo

_KEY = re.compile(
    r"users/(?P<user>[^/]+)/"
    r"(?P<sessions>audio/sessions/(?:(?P<name>[^/]+)/(?P<file>.*))?)?",
    re.DOTALL,
)
_CHUNK = re.compile(r"chunk-\d+\.\w+")
"""The seed's ``chunk-001.webm``; phones send other types under the same name."""
_FILES = {
    "audio.wav": "audio",
    "transcription.json": "transcript",
    "transcription.job.json": "claim",
}


class Place(NamedTuple):
    """Where a key is.

    Attributes:
        session: Whose file it is; None if it is no session's.
        file: Its name in the session, such as ``audio.wav``.
        among_sessions: It is below the user's sessions.
    """

    user: str
    among_sessions: bool
    session: Session | None
    file: str


def place_of(key: str) -> Place | None:
    """Tell where a key is; None if it is no user's."""
    match = _KEY.match(key)
    if match is None:
        return None
    user, name = match["user"], match["name"]
    session = None if name is None else Session(user, name)
    return Place(user, match["sessions"] is not None, session, match["file"] or "")


class Gathering:
    """The session whose objects are just coming; its size does not grow with them."""

    def __init__(self) -> None:
        self._session: Session | None = None
        self._files: dict[str, ObjectInfo] = {}
        self._chunks = 0

    def add(self, session: Session | None, file: str, info: ObjectInfo) -> Iterator[Found]:
        """Take the next object of the listing; yield the session before, if that is whole now."""
        if session != self._session:
            yield from self.end()
            self._session = session
        if file in _FILES:
            self._files[_FILES[file]] = info
        elif _CHUNK.fullmatch(file):
            self._chunks += 1

    def end(self) -> Iterator[Found]:
        """Yield the session that was coming, if there was one."""
        if self._session is not None:
            yield Found(self._session, **self._files, chunks=self._chunks)
        self._session, self._files, self._chunks = None, {}, 0


def gathered(objects: Iterable[ObjectInfo]) -> Iterator[Found]:
    """Yield the sessions of a listing."""
    gathering = Gathering()
    for info in objects:
        place = place_of(info.key)
        if place is not None:
            yield from gathering.add(place.session, place.file, info)
    yield from gathering.end()

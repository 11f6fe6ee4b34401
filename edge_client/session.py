"""A session: one recording's place in the bucket and the keys beside it; RECORDING_PATTERN.

`RecordingPattern` tells a recording's key from others', finds its session, and makes the key that
an upload goes to. Raises `BadUsage` for what names no session, `ValueError` for a bad pattern.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from dataclasses import dataclass
from functools import cached_property

from edge_client.errors import BadUsage

_FILE_NAME = re.compile(
    r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))\w[\w.-]{0,99}(?<!\.)", re.ASCII | re.IGNORECASE
)


def file_name(name: str) -> str:
    """Return the name itself if any file system takes it, else one that no other name becomes."""
    if _FILE_NAME.fullmatch(name):
        return name
    shown = re.sub(r"[^\w.-]", "_", name)[:48].strip(".-")
    return f"{shown}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"


def _key(name: str) -> cached_property[str]:
    """Return the property that is the key of a session's object."""
    return cached_property(lambda session: session.beside + name)


@dataclass(frozen=True)
class Session:
    """One recording's place in the bucket; ``key`` is None under the default pattern."""

    user: str
    name: str
    key: str | None = None

    @cached_property
    def prefix(self) -> str:
        """What names the session: its folder, or the recording's key where that is not default."""
        return self.key or f"users/{self.user}/audio/sessions/{self.name}"

    @cached_property
    def beside(self) -> str:
        """What the keys of all its objects begin with."""
        return f"{self.prefix}/" if self.key is None else f"{self.key.rpartition('.')[0]}."

    @property
    def path(self) -> tuple[str, ...]:
        """The names of folders and file that tell it from all others."""
        return (self.user, self.name) if self.key is None else tuple(self.beside[:-1].split("/"))

    @cached_property
    def audio_key(self) -> str:
        """The recording."""
        return self.key or f"{self.beside}audio.wav"

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


USER, SESSION, STEM, ANY = "{user}", "{session}", "{stem}", "*"
_NAME = re.compile(r"(\{[^{}]*\}|[*{}])")


@dataclass(frozen=True)
class RecordingPattern:
    """Which keys are recordings: text, in which names stand for anything but ``/``.

    A name ends where what follows it first occurs. ``{stem}`` is all of a file's name before its
    ending; ``*`` is a name that nobody needs. The ending is fixed, so that each recording has a
    result of its own, and no result is a recording.
    """

    text: str = "users/{user}/audio/sessions/{session}/audio.wav"

    def __post_init__(self) -> None:
        names = _NAME.findall(self.text)
        stem, _, ending = self.text.rpartition("/")[2].rpartition(".")
        named = [name for name in names if name != ANY]
        for is_wrong, text in (
            (set(named) - {USER, SESSION, STEM}, "the names are {user}, {session}, {stem} and *"),
            (len(named) > len(set(named)), "each name stands in it once"),
            (not {SESSION, STEM} & set(named), "{session} or {stem} has to tell recordings apart"),
            (re.search(r"[}*][{*]", self.text), "something has to stand between two names"),
            (not stem or not re.fullmatch(r"\w+", ending), "it ends as the files do, with .wav"),
            (ending.lower() == "json", "results end with .json, so recordings cannot"),
            (STEM in names and stem != STEM, "{stem} is all of the file's name before its ending"),
            (self.text.startswith(("/", "s3://")), "keys begin without a slash or a bucket"),
        ):
            if is_wrong:
                raise ValueError(f"{text}, as in calls/{{user}}/{{stem}}.mp3")

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        def part(text: str) -> str:
            name = "" if text == ANY else f"?P<{text[1:-1]}>"
            return f"({name}[^/]+?)" if _NAME.fullmatch(text) else re.escape(text)

        return re.compile("".join(map(part, _NAME.split(self.text))))

    @property
    def is_default(self) -> bool:
        """Whether sessions are folders, with an ``audio.wav``."""
        return self == DEFAULT

    @property
    def ending(self) -> str:
        """How every recording's key ends, such as ``.mp3``."""
        return "." + self.text.rpartition(".")[2]

    @cached_property
    def any(self) -> Session:
        """All sessions, as an IAM policy names them."""
        return Session("*", "*", None if self.is_default else _NAME.sub("*", self.text))

    def begins(self, user: str | None = None) -> str:
        """Return what the keys of all recordings begin with, or of one user's."""
        before, _, after = self.text.partition(USER)
        head = _NAME.split(before)[0]
        return head if user is None or head != before else head + user + _NAME.split(after)[0]

    def match(self, key: str) -> Session | None:
        """Return the session whose recording has this key, None if it is no recording's."""
        found = self._regex.fullmatch(key)
        if found is None:
            return None
        values = found.groupdict()
        name = values.get("session") or values["stem"]
        return Session(values.get("user", ""), name, None if self.is_default else key)

    def parse(self, text: str) -> Session:
        """Read what names a session, as its ``prefix`` does; raises `BadUsage`."""
        key = f"{text.removesuffix('/')}/audio.wav" if self.is_default else text
        session = self.match(key)
        if session is None:
            form = "users/USER/audio/sessions/NAME" if self.is_default else f"a key ({self.text})"
            forms = f"{form}, the bare NAME, s3://BUCKET/KEY, or a file that is there"
            raise BadUsage(f"SESSION {text!r}: give {forms}")
        return session

    def place(self, user: str, name: str, stem: str | None = None) -> Session | None:
        """Return the session of this name; None if the pattern has no such key.

        ``stem`` counts where a session is a folder of several files.
        """
        if SESSION not in self.text:
            stem = name
        values = {USER: user, SESSION: name, STEM: stem or "", ANY: ""}
        key = _NAME.sub(lambda found: values[found[0]], self.text)
        session = None if {".", ".."} & set(key.split("/")) else self.match(key)
        is_it = session is not None and (session.user, session.name) == (user, name)
        return session if is_it else None


DEFAULT = RecordingPattern()

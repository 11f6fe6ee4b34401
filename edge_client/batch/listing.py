"""Lists a bucket's sessions, page after page of up to 1,000 keys, in the server's order.

Takes a `Filter`; yields a `ListedSession` as soon as its last key has come. Memory holds one page,
and no continuation token is kept that could expire while the consumer is slow. Raises
`SessionNotFound` for a user without any. `in_order` makes slow values a few at a time.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from edge_client.batch.types import Filter, ListedSession
from edge_client.errors import SessionNotFound
from edge_client.services.s3 import Bucket, ObjectInfo
from edge_client.session import Session

T = TypeVar("T")

READS_AT_ONCE = 4
DRAWN_AHEAD = 64
BEHIND_ALL = "\U0010fffd"
"""Sorts behind every name, in bytes and in characters, and may stand in XML."""
_KEY = re.compile(
    r"users/(?P<user>[^/]+)/"
    r"(?P<sessions>audio/sessions/(?:(?P<name>[^/]+)/(?P<file>.*))?)?",
    re.DOTALL,
)
_CHUNK = re.compile(r"chunk-\d+\.\w+")
"""``chunk-001.webm``; phones send other types under the same name."""
_BESIDE = {".transcription.json": "transcript", ".transcription.job.json": "claim"}
_FILES = {"audio.wav": "audio", **{name[1:]: kind for name, kind in _BESIDE.items()}}
Found = tuple[Session, str | None, ObjectInfo]
"""An object of a session, and the field of `ListedSession` that it is."""


def list_sessions(bucket: Bucket, chosen: Filter) -> Generator[ListedSession, None, None]:
    """List the sessions that are chosen by name, user and time, else all.

    A session that is chosen by name and is not there comes as an empty `ListedSession`; one that
    has no recording yet is never too old.
    """
    for each in _listed(bucket, chosen):
        if not (chosen.since and each.audio and each.audio.modified_at < chosen.since):
            yield each


def _listed(bucket: Bucket, chosen: Filter) -> Iterator[ListedSession]:
    if chosen.sessions:
        lookups: Iterator[ListedSession | partial[ListedSession]] = (
            partial(_look_up, bucket, session) for session in dict.fromkeys(chosen.sessions)
        )
        yield from in_order(lookups, ahead=2 * READS_AT_ONCE)
    elif chosen.user is None:
        yield from _below(bucket, bucket.recordings.begins())
    else:
        below = _below(bucket, bucket.recordings.begins(chosen.user))
        listed = (each for each in below if each.session.user == chosen.user)
        first = next(listed, None)
        if first is None:
            remedy = "check --user, COGNITO_S3_BUCKET and RECORDING_PATTERN"
            raise SessionNotFound(f"user {chosen.user!r} has no sessions: {remedy}")
        yield first
        yield from listed


def _look_up(bucket: Bucket, session: Session) -> ListedSession:
    below = _below(bucket, session.beside)
    return next((each for each in below if each.session == session), ListedSession(session))


def _below(bucket: Bucket, prefix: str) -> Iterator[ListedSession]:
    """Group the objects below a prefix: servers differ in order, but what begins alike is together.

    Among one session's objects another's may stand: ``a.mp3``, ``a.n.mp3``, ``a.transcription.…``.
    """
    listed: dict[Session, dict[str, Any]] = {}
    objects = _in_folders if bucket.recordings.is_default else _by_pattern
    for session, kind, info in objects(bucket, prefix):
        for other in [each for each in listed if not info.key.startswith(each.beside)]:
            yield ListedSession(other, **listed.pop(other))
        its = listed.setdefault(session, {})
        if kind == "chunks":
            its[kind] = its.get(kind, 0) + 1
        elif kind is not None:
            its[kind] = info
    for session, its in listed.items():
        yield ListedSession(session, **its)


def _by_pattern(bucket: Bucket, prefix: str) -> Iterator[Found]:
    recordings, after = bucket.recordings, ""
    endings = {recordings.ending: "audio", **_BESIDE}
    while True:
        page = bucket.list_page(prefix, after)
        for info in page.objects:
            for ending, kind in endings.items():
                session = recordings.match(info.key.removesuffix(ending) + recordings.ending)
                if info.key.endswith(ending) and session is not None:
                    yield session, kind, info
        if not page.is_truncated:
            return
        after = page.objects[-1].key


def _in_folders(bucket: Bucket, prefix: str) -> Iterator[Found]:
    """Yield what the users' sessions have; what else a user has is jumped over.

    It may sort before or behind the sessions. Behind a key before them the next LIST starts at the
    sessions; if they came already, or there are none, it starts at the next user.
    """
    after, user_listed = "", ""
    while True:
        page = bucket.list_page(prefix, after)
        for info in page.objects:
            match = _KEY.match(info.key)
            if match is None or match["sessions"] is None:
                continue
            user_listed = match["user"]
            if match["name"] is not None:
                file = match["file"]
                kind = _FILES.get(file) or ("chunks" if _CHUNK.fullmatch(file) else None)
                yield Session(match["user"], match["name"]), kind, info
        if not page.is_truncated:
            return
        after = page.objects[-1].key
        match = _KEY.match(after)
        if match is None or match["sessions"] is not None:
            continue
        if match["user"] == user_listed:
            after = f"users/{user_listed}/{BEHIND_ALL}"
        else:
            user_listed = match["user"]
            after = f"users/{user_listed}/audio/sessions/"


def in_order(
    values: Iterable[T | partial[T]], *, workers: int = READS_AT_ONCE, ahead: int = DRAWN_AHEAD
) -> Generator[T, None, None]:
    """Yield every value, in order; one that is there already does not wait for the next.

    A `partial` is called in one of the threads as soon as it is drawn; what it raises comes in
    its place. At most ``ahead`` values are drawn before the oldest is there.
    """
    drawn: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, "in-order")
    try:
        for value in values:
            future: Future[T] = Future()
            if isinstance(value, partial):
                future = pool.submit(value)
            else:
                future.set_result(value)
            drawn.append(future)
            while drawn and (len(drawn) >= ahead or drawn[0].done()):
                yield drawn.popleft().result()
        while drawn:
            yield drawn.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

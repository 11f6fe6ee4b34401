"""Lists the bucket: one pass of LIST calls of 1,000 keys, several at a time.

Takes a `Scope`; yields a `Found` for each session as soon as its last key has come. Memory does
not grow with the bucket: a few pages wait for the consumer, and when it is slow the listers wait.
No continuation token is kept, so nothing expires while they do. Raises what S3 answers, as
`EdgeError`.

The first lister starts with the whole bucket. Where that is more than a page, a lister gives the
later half of the users it knows ahead (one LIST with a delimiter) to another: at its first page,
then after every 100. Each costs less than one LIST more, so calls stay within 2 % of keys / 1,000.

A bounded hand-over from several threads to one consumer, which either side can end.

A consumer that stops taking pauses the producers; one that goes away stops them.

Puts the objects of a listing together into sessions. Pure.

A listing's order differs between servers, but all of them keep a folder's keys together, so a
session is whole when a key of another place comes.

Does the slow ones of a stream of values a few at a time, and keeps the stream's order.

One lister's part of the bucket: contiguous users, in whatever order the server has.

Servers sort differently (S3: whole keys bytewise, ``a b/`` before ``a/``; SeaweedFS: folder by
folder, ``a/`` before ``a b/``). So nothing here compares names: a stretch ends where the first
user comes that belongs to another one.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, NamedTuple, TypeVar

from edge_client.batch.types import Found
from edge_client.errors import SessionNotFound
from edge_client.services.s3 import Bucket, ObjectInfo, Page
from edge_client.session import USERS, Session

T = TypeVar("T")


class Channel(Generic[T]):
    """The hand-over.

    Args:
        room: So many values wait at most.
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._waiting: deque[T] = deque()
        self._changed = threading.Condition()
        self._producers = 0
        self._closed = False
        self._failure: Exception | None = None

    @property
    def is_closed(self) -> bool:
        """Whether the consumer is gone: nothing more needs to be made."""
        return self._closed

    def enter(self) -> None:
        """Count one more producer; called before its thread starts."""
        with self._changed:
            self._producers += 1

    def leave(self) -> None:
        """Count one producer less; the iteration ends after the last one's values."""
        with self._changed:
            self._producers -= 1
            self._changed.notify_all()

    def put(self, value: T) -> None:
        """Hand ``value`` over; wait while there is no room. Does nothing once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._room)
            self._waiting.append(value)
            self._changed.notify_all()

    def fail(self, error: Exception) -> None:
        """Have the consumer see ``error`` next, in place of what still waits."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def close(self) -> None:
        """Release every producer: the consumer takes no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        """Yield the values until no producer is left.

        Raises:
            Exception: What a producer failed with.
        """
        while True:
            with self._changed:
                self._changed.wait_for(self._has_news)
                if self._failure is not None:
                    raise self._failure
                if not self._waiting:
                    return
                value = self._waiting.popleft()
                self._changed.notify_all()
            yield value

    def _has_news(self) -> bool:
        return bool(self._waiting or self._failure or self._producers == 0)


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


@dataclass(frozen=True, slots=True)
class Later(Generic[T]):
    """A value that costs a call over the network."""

    make: Callable[[], T]


def in_order(
    values: Iterable[T | Later[T]], *, workers: int, ahead: int
) -> Generator[T, None, None]:
    """Yield every value, in order; a value that is there does not wait for the next one.

    Args:
        values: Those to be made are made in threads, at once when they are drawn.
        workers: So many at a time.
        ahead: So many values are drawn at most before the oldest is there.

    Raises:
        Exception: What making a value raised, in its place.
    """
    drawn: deque[T | Future[T]] = deque()
    pool = ThreadPoolExecutor(workers, "in-order")
    try:
        for value in values:
            drawn.append(pool.submit(value.make) if isinstance(value, Later) else value)
            while drawn and (len(drawn) >= ahead or _is_there(drawn[0])):
                yield _taken(drawn)
        while drawn:
            yield _taken(drawn)
    finally:
        pool.shutdown(cancel_futures=True)


def _is_there(value: T | Future[T]) -> bool:
    return not isinstance(value, Future) or value.done()


def _taken(drawn: deque[T | Future[T]]) -> T:
    value = drawn.popleft()
    return value.result() if isinstance(value, Future) else value


LAST = "\U0010fffd"
"""Sorts behind every name, in bytes and in characters, and may stand in XML."""


class Stretch:
    """Users that one lister lists, and where it is.

    Args:
        after: The next LIST starts behind this string.
        ahead: Users that are to come, as far as they are known.
        is_open: More users than those may come.
        others: Users of other stretches: the first of them ends this one.
    """

    def __init__(
        self,
        after: str = "",
        ahead: Iterable[str] = (),
        *,
        is_open: bool = True,
        others: Iterable[str] = (),
    ) -> None:
        self.after = after
        self.is_over = False
        self._ahead, self._is_open, self._others = list(ahead), is_open, set(others)
        self._gathering = Gathering()
        self._user = ""
        self._sessions_of = ""

    def take(self, page: Page) -> list[Found]:
        """Read the next page; return the sessions that are whole now."""
        found: list[Found] = []
        users: dict[str, None] = {}
        self.is_over = not page.is_truncated
        for info in page.objects:
            place = place_of(info.key)
            if place is None:
                continue
            if place.user in self._others:
                self.is_over = True
                break
            users[place.user] = None
            found += self._gathering.add(place.session, place.file, info)
            self._sessions_of = place.user if place.among_sessions else self._sessions_of
        self._pass_by(users)
        if self.is_over:
            found += self._gathering.end()
        else:
            self.after = self._next_after(page.objects[-1].key)
        return found

    def _pass_by(self, users: Iterable[str]) -> None:
        """Forget users that have come."""
        for user in users:
            self._user = user
            if user in self._ahead:
                del self._ahead[: self._ahead.index(user) + 1]

    def _next_after(self, last_key: str) -> str:
        """Return where to go on: other things of a user than sessions are jumped over.

        They may sort before or behind the sessions. Behind a key before them the sessions are
        looked at once; if nothing was there, or they came already, the next user is.
        """
        place = place_of(last_key)
        if place is None or place.among_sessions:
            return last_key
        if place.user == self._sessions_of:
            return _end_of(place.user)
        self._sessions_of = place.user
        return f"{USERS}{place.user}/audio/sessions/"

    @property
    def lacks_users(self) -> bool:
        """Whether there may be users ahead, but none are known."""
        return self._is_open and not self._ahead

    @property
    def users_after(self) -> str:
        """Where a LIST of the users ahead starts."""
        return _end_of(self._user) if self._user else self.after

    def learn(self, page: Page) -> None:
        """Take a LIST of the users that are ahead."""
        names = (folder.removeprefix(USERS).removesuffix("/") for folder in page.folders)
        self._ahead = [name for name in names if "/" not in name]
        self._is_open = page.is_truncated

    def halve(self) -> Stretch | None:
        """Give the later half of the users ahead away; None if there are none."""
        theirs = self._ahead[len(self._ahead) // 2 :]
        if not theirs:
            return None
        half = Stretch(
            f"{USERS}{theirs[0]}/", theirs[1:], is_open=self._is_open, others=self._others
        )
        del self._ahead[len(self._ahead) // 2 :]
        self._is_open = False
        self._others.update(theirs)
        return half


def _end_of(user: str) -> str:
    return f"{USERS}{user}/{LAST}"


LISTERS = 4
PAGES_A_HALVING = 100
PAGES_WAITING = 4
CLOSING_S = 5.0
"""A lister that S3 leaves without an answer is not waited for: its thread ends with the process."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is listed.

    Attributes:
        sessions: These only.
        user: Or this user's only.
    """

    sessions: tuple[Session, ...] = ()
    user: str | None = None


def scan(bucket: Bucket, scope: Scope) -> Generator[Found, None, None]:
    """List sessions; a session of the scope that is not there comes as an empty `Found`.

    Closing the iterator stops its threads.

    Raises:
        SessionNotFound: The user of the scope has no session.
        EdgeError: S3 does not answer, or refuses.
    """
    if scope.sessions:
        asked = (Later(partial(_one, bucket, one)) for one in dict.fromkeys(scope.sessions))
        return in_order(asked, workers=LISTERS, ahead=2 * LISTERS)
    if scope.user is not None:
        return _of_user(bucket, scope.user)
    return _everything(bucket)


def _one(bucket: Bucket, session: Session) -> Found:
    listed = gathered(_objects(bucket, f"{session.prefix}/"))
    return next(listed, Found(session))


def _of_user(bucket: Bucket, user: str) -> Generator[Found, None, None]:
    found = None
    for found in gathered(_objects(bucket, f"{USERS}{user}/audio/sessions/")):
        yield found
    if found is None:
        raise SessionNotFound(f"user {user!r} has no sessions: check --user and COGNITO_S3_BUCKET")


def _objects(bucket: Bucket, prefix: str) -> Iterator[ObjectInfo]:
    after, more = "", True
    while more:
        page = bucket.list_page(prefix, after)
        yield from page.objects
        more = page.is_truncated
        after = page.objects[-1].key if more else ""


def _everything(bucket: Bucket) -> Generator[Found, None, None]:
    listers = _Listers(bucket)
    listers.start(Stretch(), halve_at=1)
    try:
        for page in listers.found:
            yield from page
    finally:
        listers.stop()


class _Listers:
    """The threads that list, and what they found."""

    def __init__(self, bucket: Bucket) -> None:
        self.found: Channel[list[Found]] = Channel(PAGES_WAITING)
        self._bucket = bucket
        self._threads: list[threading.Thread] = []
        self._others_free = threading.Semaphore(LISTERS - 1)

    def start(self, stretch: Stretch, halve_at: int = PAGES_A_HALVING) -> None:
        """List a stretch in a thread of its own."""
        self.found.enter()
        thread = threading.Thread(
            target=self._run, args=(stretch, halve_at), name="lister", daemon=True
        )
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """Stop the threads, and wait for them."""
        self.found.close()
        for thread in self._threads:
            thread.join(CLOSING_S)

    def _run(self, stretch: Stretch, halve_at: int) -> None:
        try:
            self._list(stretch, halve_at)
        except Exception as exc:  # it is the consumer's to raise
            self.found.fail(exc)
        finally:
            self._others_free.release()
            self.found.leave()

    def _list(self, stretch: Stretch, halve_at: int) -> None:
        pages = 0
        while not (stretch.is_over or self.found.is_closed):
            found = stretch.take(self._bucket.list_page(USERS, stretch.after))
            pages += 1
            if found:
                self.found.put(found)
            if pages == halve_at and not stretch.is_over:
                self._share(stretch)
                halve_at += PAGES_A_HALVING

    def _share(self, stretch: Stretch) -> None:
        """Have another thread list half of the stretch, if one is free."""
        if not self._others_free.acquire(blocking=False):
            return
        if stretch.lacks_users:
            stretch.learn(self._bucket.list_page(USERS, stretch.users_after, delimiter="/"))
        half = stretch.halve()
        if half is None:
            self._others_free.release()
        else:
            self.start(half)

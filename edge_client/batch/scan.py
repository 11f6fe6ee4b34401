"""Lists the bucket: one pass of LIST calls of 1,000 keys, several at a time.

Takes a `Scope`; yields a `Found` for each session as soon as its last key has come. Memory does
not grow with the bucket: a few pages wait for the consumer, and when it is slow the listers wait.
No continuation token is kept, so nothing expires while they do. Raises what S3 answers, as
`EdgeError`.

The first lister starts with the whole bucket. Where that is more than a page, a lister gives the
later half of the users it knows ahead (one LIST with a delimiter) to another: at its first page,
then after every 100. Each costs less than one LIST more, so calls stay within 2 % of keys / 1,000.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import partial

from edge_client.batch.channel import Channel
from edge_client.batch.gathering import gathered
from edge_client.batch.in_order import Later, in_order
from edge_client.batch.stretch import Stretch
from edge_client.batch.values import Found
from edge_client.errors import SessionNotFound
from edge_client.layout import USERS, Session
from edge_client.storage import Bucket, ObjectInfo

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

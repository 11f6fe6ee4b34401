"""One lister's part of the bucket: contiguous users, in whatever order the server has.

Servers sort differently (S3: whole keys bytewise, ``a b/`` before ``a/``; SeaweedFS: folder by
folder, ``a/`` before ``a b/``). So nothing here compares names: a stretch ends where the first
user comes that belongs to another one.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge_client.batch.gathering import Gathering, place_of
from edge_client.batch.values import Found
from edge_client.layout import USERS
from edge_client.storage import Page

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

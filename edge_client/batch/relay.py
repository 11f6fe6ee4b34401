"""Carries what threads learn to the one thread that decides and shows."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from edge_client.batch.values import BatchView
from edge_client.follow import Glimpse
from edge_client.layout import Session


class Relay:
    """Deeds, in the order in which they were told."""

    def __init__(self) -> None:
        self._deeds: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def tell(self, deed: Callable[..., None], *values: object) -> None:
        """Have the deciding thread do something. From any thread, or a signal's handler."""
        self._deeds.put(lambda: deed(*values))

    def fail(self, exc: Exception) -> None:
        """Have the deciding thread raise: a bug must end the batch, not stall it."""
        self.tell(_raise, exc)

    def take(self, wait_s: float) -> None:
        """Wait for the next deed, so long at most; then do all there are."""
        with suppress(Empty):
            self._deeds.get(timeout=wait_s)()
            while True:
                self._deeds.get_nowait()()


class SessionView:
    """Shows what is seen of one session, from the thread that shows. A `follow.View`."""

    def __init__(self, relay: Relay, view: BatchView, session: Session) -> None:
        self._relay, self._view, self._session = relay, view, session

    def show(self, glimpse: Glimpse) -> None:
        """Take what a poll saw."""
        self._relay.tell(self._view.show, self._session, glimpse)

    def note(self, message: str) -> None:
        """Tell the user something, under the session's name."""
        self._relay.tell(self._view.note, f"{self._session}: {message}")


def _raise(exc: Exception) -> None:
    raise exc

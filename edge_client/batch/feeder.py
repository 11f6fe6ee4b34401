"""Draws from the listing in a thread of its own, not further ahead than there is room for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from edge_client.batch.relay import Relay
from edge_client.batch.values import Item
from edge_client.errors import EdgeError


class Feeder:
    """A thread that draws items until there are no more, or `stop` is called.

    Args:
        items: A generator; closed by the thread that drew from it.
        room: So many items may be drawn and not yet taken up (`make_room`).
        relay: To the thread that takes them.
        arrived: Given each item.
        ended: Given None at the end, or why the listing broke.
    """

    def __init__(
        self,
        items: Iterator[Item],
        room: int,
        relay: Relay,
        arrived: Callable[[Item], None],
        ended: Callable[[EdgeError | None], None],
    ) -> None:
        self._items, self._relay, self._arrived, self._ended = items, relay, arrived, ended
        self._room = threading.Semaphore(room)
        self._stopped = threading.Event()
        threading.Thread(target=self._run, name="feeder", daemon=True).start()

    def make_room(self) -> None:
        """Let one more item be drawn."""
        self._room.release()

    def stop(self) -> None:
        """Draw no more."""
        self._stopped.set()
        self._room.release()

    def _run(self) -> None:
        try:
            self._draw()
        except EdgeError as exc:
            self._relay.tell(self._ended, exc)
        except Exception as exc:  # a bug must end the batch, not stall it
            self._relay.fail(exc)

    def _draw(self) -> None:
        try:
            for item in self._items:
                self._relay.tell(self._arrived, item)
                self._room.acquire()
                if self._stopped.is_set():
                    return
        finally:
            close = getattr(self._items, "close", None)  # a generator ends its own threads
            if close is not None:
                close()
        self._relay.tell(self._ended, None)

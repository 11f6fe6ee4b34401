"""The threads that finish the sessions in the inbox."""

from __future__ import annotations

import logging
import threading
import time

from edge_client.errors import EdgeError
from edge_client.layout import Session
from edge_client.webhook.finisher import Finisher, named
from edge_client.webhook.inbox import Inbox

log = logging.getLogger(__name__)


class Settlers:
    """A fixed number of threads.

    Args:
        inbox: Where they take sessions from.
        finisher: Does the work.
        count: How many threads.
    """

    def __init__(self, inbox: Inbox, finisher: Finisher, count: int) -> None:
        self._inbox, self._finisher = inbox, finisher
        self._threads = [
            threading.Thread(target=self._work, name=f"settler-{number}", daemon=True)
            for number in range(count)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def join(self, grace_s: float) -> int:
        """Wait until each has finished its session, once the inbox is closed.

        Args:
            grace_s: Seconds at most. A thread that takes longer dies with the process, which
                harms no more than a power cut would: S3 has the ledger.

        Returns:
            How many are still at work.
        """
        deadline = time.monotonic() + grace_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return sum(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (session := self._inbox.take()) is not None:
            self._inbox.release(session, self._finish(session))

    def _finish(self, session: Session) -> float | None:
        """Return after how many seconds to finish it again; None if it is over."""
        try:
            return self._finisher.finish(session)
        except EdgeError as exc:
            log.warning("%s: %s", named(session), exc)
        except Exception:
            # one session's surprise must not end the thread, and with it all others' callbacks
            log.exception("%s: unexpected, please report it", named(session))
        return None

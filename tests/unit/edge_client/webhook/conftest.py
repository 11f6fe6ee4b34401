"""What the receiver's tests share."""

import threading
from collections.abc import Callable

from edge_client.session import DEFAULT, Session

SECRET = "0123456789abcdef-secret"


class Recorder:
    """A finisher that does what it is told; releases `begun` and `seen` for each call."""

    def __init__(self, *actions: Callable[[], float | None]) -> None:
        self.actions, self.calls = list(actions), list[Session]()
        self.hints: dict[Session, str] = {}
        self.recordings = DEFAULT
        self.begun, self.seen = threading.Semaphore(0), threading.Semaphore(0)

    def finish(self, session: Session) -> float | None:
        """Do the next action."""
        self.calls.append(session)
        self.begun.release()
        try:
            return self.actions.pop(0)() if self.actions else None
        finally:
            self.seen.release()

    def wait_for(self, calls: int) -> None:
        """Wait until it was called so often."""
        for _ in range(calls):
            assert self.seen.acquire(timeout=10)

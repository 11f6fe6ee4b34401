"""What the receiver's tests share."""

import threading
from collections.abc import Callable

import pytest

from edge_client.errors import StorageRefused
from edge_client.session import Session

SECRET = "0123456789abcdef-secret"


class Desk:
    """Takes sessions in, as long as there is room."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.has_room = True

    def offer(self, session: object) -> bool:
        """Take one."""
        if self.has_room:
            self.taken.append(str(session))
        return self.has_room


@pytest.fixture
def desk() -> Desk:
    return Desk()


class Recorder:
    """A finisher that does what it is told; releases `begun` and `seen` for each call."""

    def __init__(self, *actions: Callable[[], float | None]) -> None:
        self.actions, self.calls = list(actions), list[Session]()
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


def refuse() -> None:
    raise StorageRefused("S3 answers 403")


def break_down() -> None:
    raise ZeroDivisionError

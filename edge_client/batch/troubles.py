"""What keeps a batch from submitting: for a while, or for good."""

from __future__ import annotations

from edge_client.clock import Clock
from edge_client.errors import (
    EdgeError,
    EndpointNotFound,
    NotConfigured,
    RateLimited,
    RunpodError,
    StorageRefused,
    Unauthorized,
    Unreachable,
)

PATIENCE_S = 300.0
"""So long may S3 or RunPod be away before a session is given up for this run."""
ALIKE_AT_MOST = 10
"""So many sessions may be refused in a row, for one reason, before no more are submitted."""
_AT_ONCE = (NotConfigured, Unauthorized, EndpointNotFound)
"""What concerns every session, not one."""
_IN_THE_END = (StorageRefused, RunpodError, Unreachable, RateLimited)


class Troubles:
    """Counts refusals.

    Attributes:
        fatal: Why nothing is submitted any more.
    """

    patience_s = PATIENCE_S

    def __init__(self, clock: Clock) -> None:
        self.fatal: EdgeError | None = None
        self._clock = clock
        self._not_before = clock.monotonic()
        self._alike, self._last = 0, ""

    @property
    def is_pausing(self) -> bool:
        """Whether a service was away a moment ago."""
        return self._clock.monotonic() < self._not_before

    def pause(self, pause_s: float) -> None:
        """Submit nothing for so long."""
        self._not_before = self._clock.monotonic() + pause_s

    def stop(self, exc: EdgeError) -> None:
        """Submit nothing any more."""
        self.fatal = self.fatal or exc

    def count(self, exc: EdgeError, was_submission: bool) -> None:
        """Take a refusal that a session was given up for."""
        if isinstance(exc, _AT_ONCE) or (was_submission and isinstance(exc, Unreachable)):
            self.stop(exc)
        elif was_submission and isinstance(exc, _IN_THE_END):
            self._alike = self._alike + 1 if exc.code == self._last else 1
            self._last = exc.code
            if self._alike >= ALIKE_AT_MOST:
                self.stop(exc)

    def forget(self) -> None:
        """Know that a submission went through."""
        self._alike = 0

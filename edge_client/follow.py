"""Waits for a job to end.

Takes a job and a `View`; returns RunPod's last status; raises `WaitTimedOut`. Polls after 1 s at
first, then ever more rarely, up to every 10 s; a change of the job's state begins that anew. A
network that is away for a while does not end the waiting: the job goes on without us.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, cast

from contract import JobState, JobStatus, Progress
from edge_client.clock import Clock
from edge_client.errors import JobNotFound, RateLimited, Unreachable, WaitTimedOut
from edge_client.estimate import Estimate

T = TypeVar("T")
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 10.0
GROWTH = 1.4
JITTER = 0.2
PATIENCE_S = 300.0
"""So long may RunPod be unreachable before the waiting ends."""
LOOKS_FOR_ABSENCE = 3
"""One 404 may be a proxy's, or come before a new job is known everywhere; a resubmission costs."""


@dataclass(frozen=True)
class Glimpse:
    """What there is to see of a running job.

    Attributes:
        percent: Of the whole job.
        left_s: An estimate of the seconds that remain.
    """

    state: str
    stage: str | None = None
    percent: float | None = None
    left_s: float | None = None


class View(Protocol):
    """Shows how far a job is."""

    def show(self, glimpse: Glimpse) -> None:
        """Take the latest state; called after every poll."""

    def note(self, message: str) -> None:
        """Tell the user something that is not progress."""


def glimpse_of(status: JobStatus) -> Glimpse:
    """Read a status as progress. RunPod carries a running job's progress as its output."""
    state = "queued" if status.status is JobState.IN_QUEUE else "running"
    if status.status.is_final:
        state = status.status.value.lower()
    elif isinstance(status.output, dict):
        try:
            progress = Progress.model_validate(status.output)
        except ValueError:
            return Glimpse(state)
        return Glimpse(state, progress.stage.value, progress.percent)
    return Glimpse(state)


class Pace:
    """Seconds between polls: growing, with jitter so that edge boxes do not march in step.

    Args:
        random_unit: Returns 0 to 1.
    """

    def __init__(self, random_unit: Callable[[], float] = random.random) -> None:
        self._random_unit = random_unit
        self._pause_s = FIRST_PAUSE_S

    def restart(self) -> None:
        """Look often again: a job that has just left the queue shows how far it is."""
        self._pause_s = FIRST_PAUSE_S

    def next_s(self) -> float:
        """Return the pause before the next poll."""
        pause_s = self._pause_s * (1 + JITTER * (2 * self._random_unit() - 1))
        self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * GROWTH)
        return pause_s


def until_final(
    ask: Callable[[], JobStatus], view: View, clock: Clock, limit_s: float
) -> JobStatus | None:
    """Poll until the job ends.

    Args:
        ask: One GET of the job's status.
        view: Shows each answer.
        clock: Real, or a test's.
        limit_s: Seconds to wait at most.

    Returns:
        The final status; None if RunPod has no such job (any more), seen several times.

    Raises:
        WaitTimedOut: ``limit_s`` passed.
        Unreachable: RunPod did not answer for five minutes.
    """
    pace = Pace()
    return _repeat(_Poll(ask, view, clock, pace), pace, clock, limit_s)


def until_found(look: Callable[[], T | None], view: View, clock: Clock, limit_s: float) -> T:
    """Look for something until it is there.

    Raises:
        WaitTimedOut: ``limit_s`` passed.
    """

    def step() -> tuple[bool, T | None]:
        found = look()
        view.show(Glimpse("waiting for a transcript in S3"))
        return found is not None, found

    return cast(T, _repeat(step, Pace(), clock, limit_s))


def _repeat(step: Callable[[], tuple[bool, T]], pace: Pace, clock: Clock, limit_s: float) -> T:
    deadline = clock.monotonic() + limit_s
    while True:
        over, value = step()
        if over:
            return value
        left_s = deadline - clock.monotonic()
        if left_s <= 0:
            break
        clock.sleep(min(pace.next_s(), left_s))
    raise WaitTimedOut(f"still out after {limit_s:.0f} s: the job goes on")


class _Poll:
    """One look at RunPod; remembers since when it has been unreachable, or the job unknown."""

    def __init__(self, ask: Callable[[], JobStatus], view: View, clock: Clock, pace: Pace) -> None:
        self._ask, self._view, self._clock, self._pace = ask, view, clock, pace
        self._state: JobState | None = None
        self._away_since: float | None = None
        self._absences = 0
        self._estimate = Estimate()

    def __call__(self) -> tuple[bool, JobStatus | None]:
        try:
            status = self._ask()
        except JobNotFound:
            self._absences += 1
            return self._absences >= LOOKS_FOR_ABSENCE, None
        except (Unreachable, RateLimited) as exc:
            self._bear(exc)
            return False, None
        self._away_since, self._absences = None, 0
        if status.status is not self._state:
            self._state = status.status
            self._pace.restart()
        seen = glimpse_of(status)
        left_s = self._estimate.left_s(self._clock.monotonic(), seen.percent)
        self._view.show(replace(seen, left_s=left_s))
        return status.status.is_final, status

    def _bear(self, exc: Unreachable | RateLimited) -> None:
        now = self._clock.monotonic()
        if self._away_since is None:
            self._away_since = now
            self._view.note(f"{exc}; the job goes on, trying again")
        elif now - self._away_since > PATIENCE_S:
            raise exc
        if isinstance(exc, RateLimited) and exc.retry_after_s:
            self._clock.sleep(exc.retry_after_s)

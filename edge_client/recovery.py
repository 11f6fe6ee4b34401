"""What follows when a job ended without its transcript: one table, and the function that reads it.

Takes how the job ended (the worker's `JobFailure`, or an `Ending` that RunPod's answer leaves)
and how the submissions before it ended; returns a `Step`. Pure: `edge_client.campaign` does what
the step says. Every row is bounded: by its own ``tries``, and all rows together by the settings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from contract import FAILURES, Action, JobFailure
from edge_client.verdict import Ending

JITTER = 0.2
Cause = JobFailure | Ending


class Do(StrEnum):
    """What the edge can do about a job that ended."""

    SUBMIT = "submit"
    TAKE = "take"
    SKIP = "skip"
    REPORT = "report"


@dataclass(frozen=True)
class Rule:
    """One row.

    Attributes:
        do: What is done. `Do.SUBMIT` always signs anew and goes through the claim.
        tries: How often this very ending may be answered so; None: as often as the settings allow.
        pause: Back off first: the settings' delay, doubled each time.
        longer: Let the job, and so its URLs, live longer than the last one.
    """

    do: Do
    tries: int | None = None
    pause: bool = False
    longer: bool = False


TABLE: Mapping[Action | Ending, Rule] = {
    Action.REPORT: Rule(Do.REPORT),
    Action.SKIP: Rule(Do.SKIP),
    Action.SIGN_AGAIN: Rule(Do.SUBMIT),
    Action.SIGN_LONGER: Rule(Do.SUBMIT, longer=True),
    Action.BACK_OFF: Rule(Do.SUBMIT, pause=True),
    Action.SUBMIT_AGAIN: Rule(Do.SUBMIT),
    Action.SUBMIT_AGAIN_ONCE: Rule(Do.SUBMIT, tries=1),
    Ending.UNDELIVERED: Rule(Do.TAKE),
    Ending.DAMAGED: Rule(Do.SUBMIT, tries=1),
    Ending.UNSTORED: Rule(Do.SUBMIT, tries=1),
    Ending.NO_OUTPUT: Rule(Do.SUBMIT, tries=1),
    Ending.FORGOTTEN: Rule(Do.SUBMIT, tries=1),
    Ending.CRASHED: Rule(Do.SUBMIT, tries=1),
    Ending.TIMED_OUT: Rule(Do.SUBMIT, tries=1, longer=True),
    Ending.UNANSWERED: Rule(Do.SUBMIT),
    Ending.CANCELLED: Rule(Do.REPORT),
    Ending.EXPIRED: Rule(Do.REPORT),
}


@dataclass(frozen=True)
class Limits:
    """The settings' bounds.

    Attributes:
        attempts: Submissions of one session in all, the first included.
        delay_s: The first pause.
    """

    attempts: int
    delay_s: float

    def pause_s(self, before: int, random_unit: Callable[[], float] = random.random) -> float:
        """Return how long to back off.

        Args:
            before: How often it was done before; each time doubles the pause.
            random_unit: Returns 0 to 1. Jitter keeps edge boxes from marching in step.
        """
        return self.delay_s * 2.0**before * (1 + JITTER * (2 * random_unit() - 1))


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes:
        do: The deed.
        pause_s: Seconds to wait before it.
        longer: As in `Rule`.
        used_up: A submission would have followed, but there were as many as are allowed.
    """

    do: Do
    pause_s: float = 0.0
    longer: bool = False
    used_up: bool = False


def name_of(cause: Cause) -> str:
    """Return a cause's stable name, as claims keep it: a failure's code, or an ending."""
    return cause.code.value if isinstance(cause, JobFailure) else cause.value


_MENDED_BY_TIME = frozenset(
    [code.value for code, rule in FAILURES.items() if rule.retryable]
    + [
        ending.value
        for ending in (
            Ending.FORGOTTEN,
            Ending.NO_OUTPUT,
            Ending.UNSTORED,
            Ending.EXPIRED,
            Ending.UNANSWERED,
        )
    ]
)


def is_mended_by_time(ended: str) -> bool:
    """Tell whether a later batch should try a recording again that nobody changed.

    A service that was away comes back. What broke on the recording itself, or ran until its
    time limit, breaks again, and costs money each time: that is for the user to say.

    Args:
        ended: As a claim keeps it: `name_of` the cause, a colon, what people were told.
    """
    return ended.partition(":")[0] in _MENDED_BY_TIME


def next_step(
    table: Mapping[Action | Ending, Rule],
    cause: Cause,
    earlier: Sequence[str],
    limits: Limits,
    random_unit: Callable[[], float] = random.random,
) -> Step:
    """Decide what follows.

    Args:
        table: `TABLE`, or a test's.
        cause: How the last submission ended.
        earlier: How those before it ended (`name_of`), oldest first.
        limits: Bounds for all rows.
        random_unit: Returns 0 to 1, for the jitter.
    """
    rule = table[cause.action if isinstance(cause, JobFailure) else cause]
    if rule.do is not Do.SUBMIT:
        return Step(rule.do)
    same = list(earlier).count(name_of(cause))
    allowed = limits.attempts if rule.tries is None else rule.tries
    if same >= allowed or len(earlier) + 1 >= limits.attempts:
        return Step(Do.REPORT, used_up=True)
    pause_s = limits.pause_s(same, random_unit) if rule.pause else 0.0
    return Step(Do.SUBMIT, pause_s, rule.longer)

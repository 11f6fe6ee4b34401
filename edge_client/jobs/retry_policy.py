"""What follows when a job left no transcript. Pure.

Takes a `Cause` (the worker's `JobFailure`, or an `Ending`) with the causes of earlier submissions;
returns a `NextStep`, which `edge_client.jobs.reconcile` carries out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bucketscribe_contract import FAILURES, Action, FailureCode, JobFailure, Stage
from edge_client.settings import Settings

RETENTION_S = 1800.0
"""So long after its end RunPod forgets a job."""


class Result(StrEnum):
    """How a session's job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"
    HELD = "held"
    UNPROVEN = "unproven"


class Ending(StrEnum):
    """How a job ended, where no worker said why. Claims keep these names."""

    UNDELIVERED = "undelivered"
    DAMAGED = "damaged"
    UNSTORED = "unstored"
    NO_OUTPUT = "no_output"
    FORGOTTEN = "forgotten"
    EXPIRED = "expired"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    CRASHED = "crashed"
    UNANSWERED = "unanswered"
    RERECORDED = "rerecorded"


Cause = JobFailure | Ending


class StepKind(StrEnum):
    """What the edge can do about a job that ended."""

    SUBMIT = "submit"
    STORE = "store"
    SKIP = "skip"
    HOLD = "hold"
    REPORT = "report"


@dataclass(frozen=True)
class Rule:
    """One row.

    Attributes:
        kind: What is done. `StepKind.SUBMIT` always signs anew and goes through the claim.
        tries: How often this very ending may be answered so; None: as often as the settings allow.
        pause: Back off first: the settings' delay, doubled each time.
        longer: Let the job, and so its URLs, live longer than the last one.
    """

    kind: StepKind
    tries: int | None = None
    pause: bool = False
    longer: bool = False


POLICY: Mapping[Action | Ending, Rule] = {
    Action.REPORT: Rule(StepKind.REPORT),
    Action.HOLD: Rule(StepKind.HOLD),
    Action.SKIP: Rule(StepKind.SKIP),
    Action.SIGN_AGAIN: Rule(StepKind.SUBMIT),
    Action.SIGN_LONGER: Rule(StepKind.SUBMIT, longer=True),
    Action.BACK_OFF: Rule(StepKind.SUBMIT, pause=True),
    Action.SUBMIT_AGAIN: Rule(StepKind.SUBMIT),
    Action.SUBMIT_AGAIN_ONCE: Rule(StepKind.SUBMIT, tries=1),
    Ending.UNDELIVERED: Rule(StepKind.STORE),
    Ending.DAMAGED: Rule(StepKind.SUBMIT, tries=1),
    Ending.UNSTORED: Rule(StepKind.SUBMIT, tries=1),
    Ending.NO_OUTPUT: Rule(StepKind.SUBMIT, tries=1),
    Ending.FORGOTTEN: Rule(StepKind.SUBMIT, tries=1),
    Ending.CRASHED: Rule(StepKind.SUBMIT, tries=1),
    Ending.TIMED_OUT: Rule(StepKind.SUBMIT, tries=1, longer=True),
    Ending.UNANSWERED: Rule(StepKind.SUBMIT),
    Ending.RERECORDED: Rule(StepKind.SUBMIT),
    Ending.CANCELLED: Rule(StepKind.REPORT),
    Ending.EXPIRED: Rule(StepKind.REPORT),
}


@dataclass(frozen=True)
class NextStep:
    """What to do next, after a pause; ``longer`` as in `Rule`.

    With ``used_up`` a submission would have followed, but there were as many as are allowed.
    """

    kind: StepKind
    pause_s: float = 0.0
    longer: bool = False
    used_up: bool = False


def cause_name(cause: Cause) -> str:
    """Return a cause's stable name, as claims keep it: a failure's code, or an ending."""
    return cause.code.value if isinstance(cause, JobFailure) else cause.value


_MENDED_BY_TIME = frozenset(
    [code.value for code, action in FAILURES.items() if action.is_retry]
    + ["forgotten", "no_output", "unstored", "expired", "unanswered", "rerecorded"]  # of `Ending`
)


def is_mended_by_time(ended: str) -> bool:
    """Tell whether a later batch should try a recording again that nobody changed.

    A service that was away comes back. What broke on the recording itself, or ran until its
    time limit, breaks again, and costs money each time: that is for the user to say. A claim
    keeps the end as the cause's name (`cause_name`), a colon and what people were told.
    """
    return ended.partition(":")[0] in _MENDED_BY_TIME


def split_end(ended: str) -> tuple[str | None, str]:
    """Return the cause's name in a claim's end, None without one, and what people were told."""
    name, _, message = ended.partition(": ")
    return (name, message) if name in (*FailureCode, *Ending) else (None, ended)


HELD_CODES = {code.value for code, action in FAILURES.items() if action is Action.HOLD}
HELD_CODES |= {FailureCode.INVALID_INPUT.value}
"""Of jobs that cost next to nothing: they do not count as submissions of a recording."""


def _is_refused_input(failure: JobFailure) -> bool:
    """Whether a worker, an older one, does not know what this client sends."""
    return failure.code is FailureCode.INVALID_INPUT and failure.stage is Stage.VALIDATE


def is_endpoints_fault(cause: Cause | None) -> bool:
    """Whether an end speaks against the endpoint, and not only against its recording."""
    if isinstance(cause, JobFailure):
        return cause.action not in (Action.REPORT, Action.SKIP) or _is_refused_input(cause)
    return cause in (Ending.CRASHED, Ending.NO_OUTPUT, Ending.UNSTORED, Ending.TIMED_OUT)


def next_step(cause: Cause, earlier: Sequence[str], settings: Settings) -> NextStep:
    """Decide what follows a submission, those before which ended so (`cause_name`)."""
    rule = POLICY[cause.action if isinstance(cause, JobFailure) else cause]
    if isinstance(cause, JobFailure) and _is_refused_input(cause):
        rule = POLICY[Action.HOLD]
    if rule.kind is not StepKind.SUBMIT:
        return NextStep(rule.kind)
    same = list(earlier).count(cause_name(cause))
    allowed = settings.retry_attempts if rule.tries is None else rule.tries
    if same >= allowed or len(earlier) + 1 >= settings.retry_attempts:
        return NextStep(StepKind.REPORT, used_up=True)
    pause_s = settings.retry_pause_s(same) if rule.pause else 0.0
    return NextStep(StepKind.SUBMIT, pause_s, rule.longer)

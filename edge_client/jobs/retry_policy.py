"""What a job's last status means, and what follows when it left no transcript. Pure.

Takes RunPod's answer, or a `Cause` (the worker's `JobFailure`, or an `Ending`) with the causes of
earlier submissions; returns a `ClassifiedStatus` or a `NextStep`, which
`edge_client.jobs.reconcile` carries out. The answer alone never proves success: RunPod forgets
results after 30 minutes, and shows a lost one as COMPLETED without output (runpod-python #309).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from bucketscribe_contract import (
    FAILURES,
    Action,
    JobFailure,
    JobState,
    JobStatus,
    JobSummary,
    UploadFailed,
)
from bucketscribe_contract.redact import one_line
from edge_client.settings import RetryLimits


class Result(StrEnum):
    """How a session's job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"
    SKIPPED = "skipped"


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


@dataclass(frozen=True)
class Unconfirmed:
    """The status decides nothing: ``result`` holds unless S3 has the job's transcript."""

    result: Result
    ending: Ending
    message: str


ClassifiedStatus = JobSummary | UploadFailed | JobFailure | Unconfirmed


def classify_status(status: JobStatus | None) -> ClassifiedStatus:
    """Read the last status, None if RunPod has no such job any more.

    One that is not final is taken for the last there will be: the claim says that its job's time
    is over.
    """
    if status is None:
        text = "RunPod has forgotten the job and S3 has no transcript of it"
        return Unconfirmed(Result.LOST, Ending.FORGOTTEN, text)
    if status.status is JobState.COMPLETED:
        return _completed(status.output)
    if status.status is JobState.FAILED:
        return _failed(status)
    if status.status is JobState.CANCELLED:
        return Unconfirmed(Result.CANCELLED, Ending.CANCELLED, "the job was cancelled")
    if status.status is JobState.TIMED_OUT:
        text = "RunPod ended the job at its executionTimeout, before its transcript"
        return Unconfirmed(Result.LOST, Ending.TIMED_OUT, text)
    text = (
        f"the job's time is over, though RunPod calls it {status.status.lower()}, and S3 has no "
        "transcript: `edge-client doctor` tells whether workers come up; then submit again"
    )
    return Unconfirmed(Result.LOST, Ending.EXPIRED, text)


def _completed(output: Any) -> ClassifiedStatus:
    for model in (JobSummary, UploadFailed):
        try:
            return model.model_validate(output)
        except ValidationError:
            continue
    what = "without a result" if output is None else "with a result that is no summary"
    text = f"RunPod calls the job completed {what}, S3 has no transcript"
    return Unconfirmed(Result.LOST, Ending.NO_OUTPUT, text)


def _failed(status: JobStatus) -> ClassifiedStatus:
    text = status.error
    if text is None and isinstance(status.output, dict):
        text = status.output.get("error")
    try:
        return JobFailure.model_validate_json(text or "")
    except (ValidationError, TypeError):
        return Unconfirmed(Result.FAILED, Ending.CRASHED, f"the worker failed: {_readable(text)}")


def _readable(text: Any) -> str:
    """Return RunPod's or a foreign worker's error text as one line, without a traceback."""
    if not isinstance(text, str) or not text.strip():
        return "RunPod gives no reason; see the endpoint's logs in its console"
    with suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["error_message"])
    return one_line(text)


Cause = JobFailure | Ending


class StepKind(StrEnum):
    """What the edge can do about a job that ended."""

    SUBMIT = "submit"
    STORE = "store"
    SKIP = "skip"
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
    Ending.CANCELLED: Rule(StepKind.REPORT),
    Ending.EXPIRED: Rule(StepKind.REPORT),
}


@dataclass(frozen=True)
class NextStep:
    """What to do next.

    Attributes:
        kind: What to do.
        pause_s: Seconds to wait before it.
        longer: As in `Rule`.
        used_up: A submission would have followed, but there were as many as are allowed.
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
    + ["forgotten", "no_output", "unstored", "expired", "unanswered"]  # of `Ending`
)


def is_mended_by_time(ended: str) -> bool:
    """Tell whether a later batch should try a recording again that nobody changed.

    A service that was away comes back. What broke on the recording itself, or ran until its
    time limit, breaks again, and costs money each time: that is for the user to say. A claim
    keeps the end as the cause's name (`cause_name`), a colon and what people were told.
    """
    return ended.partition(":")[0] in _MENDED_BY_TIME


def next_step(
    cause: Cause,
    earlier: Sequence[str],
    limits: RetryLimits,
    random_unit: Callable[[], float] = random.random,
) -> NextStep:
    """Decide what follows a submission, those before which ended so (`cause_name`)."""
    rule = POLICY[cause.action if isinstance(cause, JobFailure) else cause]
    if rule.kind is not StepKind.SUBMIT:
        return NextStep(rule.kind)
    same = list(earlier).count(cause_name(cause))
    allowed = limits.attempts if rule.tries is None else rule.tries
    if same >= allowed or len(earlier) + 1 >= limits.attempts:
        return NextStep(StepKind.REPORT, used_up=True)
    pause_s = limits.pause_s(same, random_unit) if rule.pause else 0.0
    return NextStep(StepKind.SUBMIT, pause_s, rule.longer)

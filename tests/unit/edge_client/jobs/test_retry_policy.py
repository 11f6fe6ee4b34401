"""What a job's last status means, what follows from every end, and how often."""

import itertools
import json
import random
from typing import Any

import pytest

from bucketscribe_contract import (
    Action,
    FailureCode,
    JobFailure,
    JobStatus,
    JobSummary,
    Stage,
    UploadFailed,
)
from edge_client.jobs.outcome import Outcome, classify_status
from edge_client.jobs.retry_policy import (
    POLICY,
    Cause,
    Ending,
    NextStep,
    Result,
    StepKind,
    cause_name,
    is_endpoints_fault,
    is_mended_by_time,
    next_step,
)
from edge_client.settings import Settings
from tests.unit.edge_client.jobs.scene import upload_failed
from tests.unit.edge_client.samples import job, summary


def limits_of(attempts: int) -> Settings:
    return Settings.model_validate({"RETRY_ATTEMPTS": attempts, "RETRY_DELAY_SECONDS": 30})


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "uniform", lambda least, most: (least + most) / 2)


LIMITS = limits_of(3)
ONCE, OFTEN = 1, 2  # resubmissions, of three submissions in all
EXPECTED: dict[FailureCode | Ending, tuple[StepKind, int, bool, bool, bool]] = {
    # what is done, how often in a row, after a pause, with more time; does time mend it?
    **dict.fromkeys(FailureCode, (StepKind.REPORT, 0, False, False, False)),  # if nothing else is
    **dict.fromkeys(
        (FailureCode.URL_NOT_ALLOWED, FailureCode.AUDIO_FORBIDDEN, FailureCode.MODEL_UNAVAILABLE),
        (StepKind.HOLD, 0, False, False, False),
    ),
    FailureCode.AUDIO_URL_EXPIRED: (StepKind.SUBMIT, OFTEN, False, False, True),
    FailureCode.RESULT_URL_EXPIRES_TOO_SOON: (StepKind.SUBMIT, OFTEN, False, True, True),
    FailureCode.AUDIO_NOT_FOUND: (StepKind.SKIP, 0, False, False, False),
    FailureCode.STORAGE_UNAVAILABLE: (StepKind.SUBMIT, OFTEN, True, False, True),
    FailureCode.RESULT_EXISTS: (StepKind.SUBMIT, ONCE, False, False, True),
    FailureCode.AUDIO_TRUNCATED: (StepKind.SUBMIT, ONCE, False, False, True),
    FailureCode.OUT_OF_MEMORY: (StepKind.SUBMIT, OFTEN, False, False, True),
    FailureCode.INTERNAL: (StepKind.SUBMIT, ONCE, False, False, True),
    Ending.UNDELIVERED: (StepKind.STORE, 0, False, False, False),
    **dict.fromkeys(
        (Ending.UNSTORED, Ending.NO_OUTPUT, Ending.FORGOTTEN),
        (StepKind.SUBMIT, ONCE, False, False, True),
    ),
    Ending.EXPIRED: (StepKind.REPORT, 0, False, False, True),
    Ending.TIMED_OUT: (StepKind.SUBMIT, ONCE, False, True, False),
    Ending.CANCELLED: (StepKind.REPORT, 0, False, False, False),
    Ending.RERECORDED: (StepKind.SUBMIT, OFTEN, False, False, True),
    Ending.UNANSWERED: (StepKind.SUBMIT, OFTEN, False, False, True),
    **dict.fromkeys((Ending.DAMAGED, Ending.CRASHED), (StepKind.SUBMIT, ONCE, False, False, False)),
}
ALL = list(EXPECTED)


def cause(what: FailureCode | Ending) -> Cause:
    return what if isinstance(what, Ending) else JobFailure.of(what, "", Stage.FETCH)


def step(what: FailureCode | Ending, *earlier: str, limits: Settings = LIMITS) -> NextStep:
    return next_step(cause(what), earlier, limits)


def test_every_code_and_every_ending_has_its_row() -> None:
    assert set(ALL) == {*FailureCode, *Ending}
    assert set(POLICY) == {*Action, *Ending}
    assert len(POLICY) == len(Action) + len(Ending)  # equal strings would share a row


@pytest.mark.parametrize("what", ALL)
def test_ending_is_answered_so_often_in_a_row_and_then_reported(what: FailureCode | Ending) -> None:
    do, times, pause, longer, is_mended = EXPECTED[what]
    name = cause_name(cause(what))
    steps = [step(what, *[name] * before) for before in range(4)]
    assert steps[0] == NextStep(do, 30.0 if pause else 0.0, longer)
    end = NextStep(StepKind.REPORT, used_up=True) if times else NextStep(do)
    assert [s.kind for s in steps[:times]] == [StepKind.SUBMIT] * times
    assert steps[times:] == [end] * (4 - times)
    assert is_mended_by_time(f"{name}: what: happened") is is_mended  # by another batch
    assert not is_mended_by_time(f"{name}_2: of a newer client")


@pytest.mark.parametrize("attempts", [1, 7])
@pytest.mark.parametrize("what", ALL)
def test_no_mixture_of_endings_is_endless(what: FailureCode | Ending, attempts: int) -> None:
    endings = itertools.cycle(cause_name(cause(other)) for other in ALL)
    earlier = [next(endings) for _ in range(attempts - 1)]
    assert step(what, *earlier, limits=limits_of(attempts)).kind is not StepKind.SUBMIT


def test_input_that_an_older_worker_refuses_is_the_deployments_fault() -> None:
    for stage, kind in ((Stage.VALIDATE, StepKind.HOLD), (Stage.TRANSCRIBE, StepKind.REPORT)):
        refused = JobFailure.of(FailureCode.INVALID_INPUT, "", stage)
        assert next_step(refused, (), LIMITS).kind is kind
        assert is_endpoints_fault(refused) is (kind is StepKind.HOLD)


def test_other_endings_do_not_use_up_a_try() -> None:
    step_kind = step(Ending.TIMED_OUT, "INTERNAL", "crashed", limits=limits_of(9)).kind
    assert step_kind is StepKind.SUBMIT


def test_action_of_the_wire_decides_not_our_own_list() -> None:
    """A newer worker may know better what helps."""
    failure = JobFailure.of(FailureCode.AUDIO_UNREADABLE, "", Stage.DECODE)
    newer = failure.model_copy(update={"action": Action.SUBMIT_AGAIN})
    assert next_step(newer, (), LIMITS).kind is StepKind.SUBMIT


def test_pauses_double_with_a_fifth_of_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    name = FailureCode.STORAGE_UNAVAILABLE
    assert [step(name, *[name.value] * before).pause_s for before in range(2)] == [30, 60]
    monkeypatch.undo()
    pauses = sorted(LIMITS.retry_pause_s(2) for _ in range(200))
    assert 96 <= pauses[0] < 105
    assert 135 < pauses[-1] <= 144


FAILURE = JobFailure.of(FailureCode.AUDIO_NOT_FOUND, "no audio", Stage.FETCH)
SUMMARY = JobSummary.model_validate(summary())
UNDELIVERED = UploadFailed.model_validate(upload_failed())


def status(state: str, **more: Any) -> JobStatus:
    return JobStatus.model_validate(job(state, **more))


@pytest.mark.parametrize(
    ("last", "answer"),
    [
        (status("COMPLETED", output=SUMMARY.model_dump() | {"new_field": 1}), SUMMARY),
        (status("COMPLETED", output=UNDELIVERED.model_dump() | {"new_field": 1}), UNDELIVERED),
        (status("FAILED", error=FAILURE.model_dump_json()), FAILURE),
        (status("FAILED", output={"error": FAILURE.model_dump_json()}), FAILURE),
    ],
)
def test_what_the_worker_says_is_read_and_what_a_newer_one_adds_passed_over(
    last: JobStatus, answer: object
) -> None:
    assert classify_status(last) == answer
    assert "error" not in UploadFailed.model_fields  # the SDK takes such a key out of an answer


LIMIT, TWICE = "executionTimeout exceeded", "job timed out after 1 retries"


@pytest.mark.parametrize(
    ("last", "result", "ending", "said"),
    [
        (None, Result.LOST, Ending.FORGOTTEN, "forgotten"),
        *(
            (status("COMPLETED", output=output), Result.LOST, Ending.NO_OUTPUT, "can be read")
            for output in (None, "x", {"a": 1})
        ),
        (status("FAILED", error=LIMIT), Result.LOST, Ending.TIMED_OUT, "its executionTimeout"),
        (status("TIMED_OUT", error=LIMIT), Result.LOST, Ending.TIMED_OUT, "its executionTimeout"),
        (status("TIMED_OUT", executionTime=9), Result.LOST, Ending.TIMED_OUT, "executionTimeout"),
        (status("TIMED_OUT", executionTime=0), Result.LOST, Ending.EXPIRED, "in RunPod's queue"),
        (status("TIMED_OUT"), Result.LOST, Ending.EXPIRED, "in RunPod's queue"),
        (status("CANCELLED"), Result.CANCELLED, Ending.CANCELLED, "was cancelled"),
        (status("FAILED", error=TWICE), Result.FAILED, Ending.CRASHED, "lost two workers"),
        (status("FAILED", error=f"x {TWICE}"), Result.FAILED, Ending.CRASHED, f"failed: x {TWICE}"),
        (status("FAILED", error={"a": "{b}"}), Result.FAILED, Ending.CRASHED, 'failed: {"a": "{b}'),
        (status("FAILED", output={"error": 5}), Result.FAILED, Ending.CRASHED, "no reason"),
        (status("IN_QUEUE"), Result.LOST, Ending.EXPIRED, "calls it in_queue"),
    ],
)
def test_other_ends_are_unconfirmed(
    last: JobStatus | None, result: Result, ending: Ending, said: str
) -> None:
    seen = classify_status(last)
    assert isinstance(seen, Outcome)
    assert (seen.result, seen.reason) == (result, ending)
    assert said in seen.message


def test_traceback_of_a_crashed_handler_is_not_shown() -> None:
    text = "cannot GET https://b/a?X-Amz-Signature=abc"
    crash = {"error_message": text, "error_traceback": "Traceback (most recent call last): ..."}
    seen = classify_status(status("FAILED", error=json.dumps(crash)))
    assert isinstance(seen, Outcome)
    assert "cannot GET https://b/a?***" in seen.message
    assert "Traceback" not in seen.message

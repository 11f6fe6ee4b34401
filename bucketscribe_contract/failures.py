"""Why a job failed, in a form that programs can act on.

RunPod marks a job FAILED when the handler returns ``{"error": …}``; ours is the JSON text of
a `JobFailure`. `FAILURES` says for each code what the edge does, and so whether a retry can help.
`WireModel` is the base of every model on the wire.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class WireModel(BaseModel):
    """A frozen value that crosses the wire.

    A reader ignores fields that it does not know, numbers are finite, and validation errors never
    repeat the input: it may hold a presigned URL.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        allow_inf_nan=False,
        hide_input_in_errors=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
    )


class RequestModel(WireModel):
    """What is asked for: a field that nobody knows is refused by name, not left undone."""

    model_config = ConfigDict(extra="forbid")


class Stage(StrEnum):
    """The steps of a job, in order."""

    VALIDATE = "validate"
    FETCH = "fetch"
    DECODE = "decode"
    SPEECH = "speech"
    TRANSCRIBE = "transcribe"
    ALIGN = "align"
    DIARIZE = "diarize"
    ATTRIBUTE = "attribute"
    DELIVER = "deliver"


class FailureCode(StrEnum):
    """What went wrong; stable across versions."""

    INVALID_INPUT = "INVALID_INPUT"
    URL_NOT_ALLOWED = "URL_NOT_ALLOWED"
    AUDIO_URL_EXPIRED = "AUDIO_URL_EXPIRED"
    RESULT_URL_EXPIRES_TOO_SOON = "RESULT_URL_EXPIRES_TOO_SOON"
    AUDIO_FORBIDDEN = "AUDIO_FORBIDDEN"
    AUDIO_NOT_FOUND = "AUDIO_NOT_FOUND"
    STORAGE_UNAVAILABLE = "STORAGE_UNAVAILABLE"
    RESULT_EXISTS = "RESULT_EXISTS"
    AUDIO_TRUNCATED = "AUDIO_TRUNCATED"
    AUDIO_TOO_LARGE = "AUDIO_TOO_LARGE"
    AUDIO_TOO_LONG = "AUDIO_TOO_LONG"
    AUDIO_UNREADABLE = "AUDIO_UNREADABLE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    CANCELLED = "CANCELLED"
    INTERNAL = "INTERNAL"


class Action(StrEnum):
    """What the edge client does about a failure; `HOLD`: it is the deployment's fault."""

    REPORT = "report"
    HOLD = "hold"
    SKIP = "skip"
    SIGN_AGAIN = "sign_again"
    SIGN_LONGER = "sign_longer"
    BACK_OFF = "back_off"
    SUBMIT_AGAIN = "submit_again"
    SUBMIT_AGAIN_ONCE = "submit_again_once"

    @property
    def is_retry(self) -> bool:
        """Whether another job can help."""
        return self not in (Action.REPORT, Action.HOLD, Action.SKIP)


FAILURES: dict[FailureCode, Action] = {
    FailureCode.INVALID_INPUT: Action.REPORT,
    FailureCode.URL_NOT_ALLOWED: Action.HOLD,
    FailureCode.AUDIO_URL_EXPIRED: Action.SIGN_AGAIN,
    FailureCode.RESULT_URL_EXPIRES_TOO_SOON: Action.SIGN_LONGER,
    FailureCode.AUDIO_FORBIDDEN: Action.HOLD,
    FailureCode.AUDIO_NOT_FOUND: Action.SKIP,
    FailureCode.STORAGE_UNAVAILABLE: Action.BACK_OFF,
    FailureCode.RESULT_EXISTS: Action.SUBMIT_AGAIN_ONCE,
    FailureCode.AUDIO_TRUNCATED: Action.SUBMIT_AGAIN_ONCE,
    FailureCode.AUDIO_TOO_LARGE: Action.REPORT,
    FailureCode.AUDIO_TOO_LONG: Action.REPORT,
    FailureCode.AUDIO_UNREADABLE: Action.REPORT,
    FailureCode.OUT_OF_MEMORY: Action.SUBMIT_AGAIN,
    FailureCode.MODEL_UNAVAILABLE: Action.HOLD,
    FailureCode.CANCELLED: Action.REPORT,
    FailureCode.INTERNAL: Action.SUBMIT_AGAIN_ONCE,
}


class JobFailure(WireModel):
    """A failed job, as RunPod's ``error`` text carries it."""

    code: FailureCode
    message: str = Field(
        max_length=600, description="One line that names the remedy. No URL query."
    )
    stage: Stage
    retryable: bool
    action: Action
    needed_seconds: int | None = Field(
        None, ge=0, description="With RESULT_URL_EXPIRES_TOO_SOON: how long a URL has to live."
    )

    @classmethod
    def of(
        cls, code: FailureCode, message: str, stage: Stage, needed_seconds: int | None = None
    ) -> JobFailure:
        """Build a failure whose ``retryable`` and ``action`` follow `FAILURES`."""
        action = FAILURES[code]
        return cls(
            code=code,
            message=message[:600],
            stage=stage,
            retryable=action.is_retry,
            action=action,
            needed_seconds=needed_seconds,
        )


class WarningCode(StrEnum):
    """What a successful job could not do, or did differently than asked.

    A warning on the wire is the code, or the code with a detail: ``BATCH_REDUCED: align 1``.
    """

    NO_SPEECH = "NO_SPEECH"
    AUDIO_DAMAGED = "AUDIO_DAMAGED"
    OTHER_TRACKS = "OTHER_TRACKS"
    ALIGNMENT_UNAVAILABLE = "ALIGNMENT_UNAVAILABLE"
    ALIGNMENT_FAILED = "ALIGNMENT_FAILED"
    DIARIZATION_FAILED = "DIARIZATION_FAILED"
    PROMPT_TOO_LONG = "PROMPT_TOO_LONG"
    SPEAKER_HINTS_UNMET = "SPEAKER_HINTS_UNMET"
    BATCH_REDUCED = "BATCH_REDUCED"
    FLAGGED = "FLAGGED"
    UNCOVERED_SPEECH = "UNCOVERED_SPEECH"


WarningText = Annotated[
    str, Field(pattern=rf"^({'|'.join(WarningCode)})(: [ -~]{{1,100}})?$", description="A code.")
]

"""Validate: what the queue gave, into the contract's job input; and whether its result URL lasts.

Takes the raw ``input``; returns a `JobInput` whose URLs this worker's policy allows. Imports
nothing heavy. Raises `WorkerError`: ``INVALID_INPUT`` naming each field, ``URL_NOT_ALLOWED``, and
before any GPU work ``RESULT_URL_EXPIRES_TOO_SOON``.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import ValidationError

from bucketscribe_contract import FailureCode, JobInput, PresignedUrl, Stage
from worker.cancel import CancelToken, Deadline
from worker.errors import WorkerError
from worker.urls import UrlPolicy, expires_at

_LOOK_UP_S = 60.0
_MAX_COMPLAINTS = 20
_UPLOAD_S = 30.0
_SAFETY = 1.5
_SHORTEST_S = 30.0  # shorter recordings cost mostly overhead and say little about speed
_WEIGHT = 0.3


class Speed:
    """Seconds of work a second of audio takes, learnt from the jobs of this process.

    Args:
        seconds_per_second: What to assume before the first job.
    """

    def __init__(self, seconds_per_second: float) -> None:
        self.seconds_per_second = seconds_per_second
        self._learnt = False

    def learn(self, audio_s: float, work_s: float) -> None:
        """Take a finished job into account."""
        if audio_s < _SHORTEST_S:
            return
        seen = work_s / audio_s
        weight = _WEIGHT if self._learnt else 1.0
        self.seconds_per_second += weight * (seen - self.seconds_per_second)
        self._learnt = True

    def needed_s(self, audio_s: float) -> float:
        """Return how long a URL has to live from now, in seconds."""
        return _UPLOAD_S + _SAFETY * audio_s * self.seconds_per_second


def check_result_url(
    url: PresignedUrl, audio_s: float, speed: Speed, clock_skew_s: float = 0.0
) -> None:
    """Refuse a job whose result could not be stored any more when it is there.

    Args:
        url: Presigned PUT; any other URL has no end.
        audio_s: Length of what will be transcribed.
        speed: Of this worker.
        clock_skew_s: S3's clock minus this machine's.

    Raises:
        WorkerError: ``RESULT_URL_EXPIRES_TOO_SOON`` with the seconds needed.
    """
    ends = expires_at(url)
    if ends is None:
        return
    left_s = (ends - datetime.now(UTC) - timedelta(seconds=clock_skew_s)).total_seconds()
    needed_s = math.ceil(speed.needed_s(audio_s))
    if left_s >= needed_s:
        return
    raise WorkerError(
        FailureCode.RESULT_URL_EXPIRES_TOO_SOON,
        f"result_url ends in {max(left_s, 0):.0f} s, {audio_s:.0f} s of audio need {needed_s} s; "
        f"sign it for at least {needed_s} s",
        Stage.VALIDATE,
        needed_seconds=needed_s,
    )


def validate(raw: Any, policy: UrlPolicy, cancel: CancelToken) -> JobInput:
    """Return the job input.

    Args:
        raw: What the queue gave as ``input``.
        policy: Which URLs are allowed.
        cancel: Ends the look-up of their hosts.
    """
    try:
        job = JobInput.model_validate(raw)
    except ValidationError as exc:
        raise WorkerError(FailureCode.INVALID_INPUT, _explain(exc), Stage.VALIDATE) from None
    policy.check_job(job, Deadline(_LOOK_UP_S, cancel, Stage.VALIDATE))
    return job


def _explain(error: ValidationError) -> str:
    """Return the complaints in one line, fields named, values left out."""
    said = []
    found = error.errors(include_url=False, include_context=False, include_input=False)
    for item in found[:_MAX_COMPLAINTS]:
        parts = [str(part) for part in item["loc"]]  # also types, as in is-instance[PresignedUrl]
        field_name = ".".join(part for part in parts if re.fullmatch(r"[\w-]{1,64}", part))
        reason = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            reason = "unknown field"
        if "is-instance" not in str(item["loc"]):
            said.append(f"{field_name}: {reason}" if field_name else reason)
    return "; ".join(said)

"""What can go wrong on the edge box, each with the exit code a script sees.

Messages are one line and name the remedy; none holds a URL's query, a key or a transcript.

    EdgeError                     1
    ├── BadUsage                  2
    │   └── SessionAmbiguous
    ├── NotConfigured             3
    │   └── KeysEndTooSoon
    ├── Unreachable               3   no answer, or only 5xx, from S3 or RunPod
    ├── StorageRefused            3   S3 answered 403, or has no such bucket
    ├── SessionNotFound           1
    ├── AudioNotFound             1
    ├── RecordingTooLong          1
    ├── TranscriptInvalid         1
    ├── PreconditionFailed        1   an object was changed by somebody else
    ├── ClaimConflict             1   a session's claim does not allow what was asked
    ├── RunpodError               1
    │   ├── Unauthorized          3
    │   ├── EndpointNotFound      3
    │   ├── RateLimited           1   carries retry_after_s
    │   ├── JobNotFound           1
    │   ├── RequestRefused        1
    │   ├── BadResponse           1
    │   └── AnswerLost            1   the job may or may not exist
    ├── WaitTimedOut              1
    └── Interrupted             130
"""

from __future__ import annotations

from typing import ClassVar


class EdgeError(Exception):
    """A failure with a one-line message that names the remedy."""

    code: ClassVar[str] = "FAILED"
    exit_code: ClassVar[int] = 1


class BadUsage(EdgeError):
    """The command line asks for something that cannot be."""

    code = "USAGE"
    exit_code = 2


class SessionAmbiguous(BadUsage):
    """Several users have a session of this name."""

    code = "SESSION_AMBIGUOUS"

    def __init__(self, name: str, candidates: tuple[str, ...]) -> None:
        self.candidates = candidates
        listed = ", ".join(candidates[:5]) + (", …" if len(candidates) > 5 else "")
        super().__init__(
            f"{len(candidates)} users have a session {name!r}: give one in full: {listed}"
        )


class NotConfigured(EdgeError):
    """A setting is missing or malformed."""

    code = "NOT_CONFIGURED"
    exit_code = 3


class KeysEndTooSoon(NotConfigured):
    """Temporary AWS keys end before the job could have stored its transcript."""

    code = "KEYS_END_TOO_SOON"


class Unreachable(EdgeError):
    """S3 or RunPod gives no usable answer; nothing was changed there."""

    code = "UNREACHABLE"
    exit_code = 3


class StorageRefused(EdgeError):
    """S3 refuses these keys, or this bucket."""

    code = "STORAGE_REFUSED"
    exit_code = 3


class SessionNotFound(EdgeError):
    """No user has a session of this name."""

    code = "SESSION_NOT_FOUND"


class AudioNotFound(EdgeError):
    """The session holds no recording."""

    code = "AUDIO_NOT_FOUND"


class RecordingTooLong(EdgeError):
    """No presigned URL lives long enough for this recording."""

    code = "RECORDING_TOO_LONG"


class TranscriptInvalid(EdgeError):
    """``transcription.json`` is no transcript."""

    code = "TRANSCRIPT_INVALID"


class PreconditionFailed(EdgeError):
    """An object is not, or no longer, what the request assumed."""

    code = "PRECONDITION_FAILED"


class ClaimConflict(EdgeError):
    """The session's claim does not allow what was asked."""

    code = "CLAIM_CONFLICT"


class RunpodError(EdgeError):
    """RunPod answered, but not with what was asked for."""

    code = "RUNPOD_ERROR"


class Unauthorized(RunpodError):
    """RunPod does not accept the key."""

    code = "UNAUTHORIZED"
    exit_code = 3


class EndpointNotFound(RunpodError):
    """RunPod knows no such endpoint."""

    code = "ENDPOINT_NOT_FOUND"
    exit_code = 3


class RateLimited(RunpodError):
    """RunPod wants fewer requests.

    Args:
        message: One line.
        retry_after_s: Seconds to wait, where RunPod said so.
    """

    code = "RATE_LIMITED"

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class JobNotFound(RunpodError):
    """RunPod has no such job, or has forgotten it."""

    code = "JOB_NOT_FOUND"


class RequestRefused(RunpodError):
    """RunPod answered 4xx."""

    code = "REQUEST_REFUSED"


class BadResponse(RunpodError):
    """RunPod's answer cannot be read."""

    code = "BAD_RESPONSE"


class AnswerLost(RunpodError):
    """A submission's answer never came: the job may or may not exist."""

    code = "ANSWER_LOST"


class WaitTimedOut(EdgeError):
    """The job was still out when the waiting ended."""

    code = "WAIT_TIMED_OUT"


class Interrupted(EdgeError):
    """The user pressed Ctrl-C."""

    code = "INTERRUPTED"
    exit_code = 130

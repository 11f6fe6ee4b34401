"""What can go wrong on the edge box, each with the exit code a script sees.

Messages are one line and name the remedy; none holds a URL's query, a key or a transcript.
"""

from __future__ import annotations

import re
from typing import ClassVar

BAD_CERTIFICATE = "its certificate cannot be verified: set AWS_CA_BUNDLE to the file of its CA"
"""Of S3 or RunPod, behind a company's proxy or on a server of one's own."""
UNHEALTHY = "they crash or fail their checks: a worker's log, in RunPod's console, names the remedy"
THROTTLED = "no GPU of the chosen kinds is free: allow more kinds in the endpoint's settings"
"""What the endpoint's workers are."""


class EdgeError(Exception):
    """A failure with a one-line message that names the remedy."""

    code: ClassVar[str] = "FAILED"
    exit_code: ClassVar[int] = 1

    def __init_subclass__(cls, code: str | None = None, exit_code: int | None = None) -> None:
        """Name the code after the class, ``AUDIO_NOT_FOUND``, unless another one is given."""
        cls.code = code or re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()
        cls.exit_code = exit_code or cls.exit_code


class BadUsage(EdgeError, code="USAGE", exit_code=2):
    """The command line asks for something that cannot be."""


class SessionAmbiguous(BadUsage):
    """Several users have a session of this name."""


class NotConfigured(EdgeError, exit_code=3):
    """A setting is missing or malformed."""


class KeysEndTooSoon(NotConfigured):
    """Temporary AWS keys end before the job could have stored its transcript."""


class Unreachable(EdgeError, exit_code=3):
    """S3 or RunPod gives no answer, or only 5xx; nothing was changed there."""


class NotSent(Unreachable, code="UNREACHABLE"):
    """No address, no connection, or a wrong certificate: nothing left this machine."""


class BadResponse(Unreachable, code="UNREACHABLE"):
    """The answer is a proxy's, cannot be read, or is about something else: it says nothing."""


class StorageRefused(EdgeError, exit_code=3):
    """S3 refuses the keys, or has no such bucket: this concerns every session."""


class ObjectRefused(EdgeError):
    """One object is forbidden, archived, too large or too new; it stays as it is."""


class SessionNotFound(EdgeError):
    """No user has a session of this name."""


class AudioNotFound(EdgeError):
    """The session holds no recording."""


class RecordingTooLong(EdgeError):
    """No presigned URL lives long enough for this recording."""


class TranscriptInvalid(EdgeError):
    """``transcription.json`` is no transcript."""


class PreconditionFailed(EdgeError):
    """An object was changed by somebody else: it is not what the request assumed."""


class ClaimConflict(EdgeError):
    """The session's claim does not allow what was asked."""


class RunpodError(EdgeError):
    """RunPod answered, but not with what was asked for."""


class Unauthorized(RunpodError, exit_code=3):
    """RunPod does not accept the key."""


class EndpointNotFound(RunpodError, exit_code=3):
    """RunPod knows no such endpoint."""


class RateLimited(RunpodError):
    """RunPod wants fewer requests; ``retry_after_s`` are the seconds to wait, where it said so."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class JobNotFound(RunpodError):
    """RunPod has no such job, or has forgotten it."""


class RequestRefused(RunpodError):
    """RunPod answered 4xx."""


class EndpointFails(RunpodError, exit_code=3):
    """Job after job failed on the endpoint, of whatever recording."""


class AnswerLost(RunpodError):
    """A submission's answer never came: the job may or may not exist."""


class WaitTimedOut(EdgeError):
    """There was no transcript when the waiting ended."""


class Interrupted(EdgeError, exit_code=130):
    """The user pressed Ctrl-C."""

"""What can go wrong at build time; every message is one line that names the remedy.

BuildError: WrongBytes, DiskFull (exit code 1); ChoiceError (2); AccessDenied, Unreachable (3).
"""


class BuildError(Exception):
    """Wrong pins, sources, folder or models, and the base of all else, reported in one line."""

    exit_code = 1


class WrongBytes(BuildError):
    """What a server sent, or says it would send, is not what was pinned or listed."""


class DiskFull(BuildError):
    """The models do not fit on the disk."""


class ChoiceError(BuildError):
    """No such language or Whisper model, or one that is not pinned."""

    exit_code = 2


class AccessDenied(BuildError):
    """A gated model needs a token, or another one."""

    exit_code = 3


class Unreachable(BuildError):
    """A server does not answer, or does not have what it should have."""

    exit_code = 3

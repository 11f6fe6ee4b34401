"""What can go wrong at build time; every message is one line that names the remedy.

BuildError: PinError, SourceError, FolderError, ModelBroken, WrongBytes, DiskFull (exit code 1);
ChoiceError (2); AccessDenied, Unreachable (3).
"""


class BuildError(Exception):
    """The base of what the build-time tools report in one line."""

    exit_code = 1


class PinError(BuildError):
    """models.toml, a mirror's URL or the profile that was asked for is wrong."""


class SourceError(BuildError):
    """A distribution is missing, has another version or other bytes than pinned."""


class FolderError(BuildError):
    """The target folder holds something that these tools did not write."""


class ModelBroken(BuildError):
    """A model of an assembled folder is missing, or does not load and run."""


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

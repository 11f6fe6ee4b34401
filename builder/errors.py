"""What can go wrong at build time.

BuildError            the base; its message is one line that names the remedy; exit code 1
├── PinError          models.toml, or the profile asked for, is wrong
├── SourceError       a distribution is missing, has another version or other bytes
├── FolderError       the folder to write is not ours to replace
├── ModelBroken       a model of an assembled folder is missing, or does not load and run
├── WrongBytes        what a server sent is not what was pinned or listed
├── DiskFull          the models do not fit, or no longer do
├── ChoiceError       no such language or Whisper model, or one whose bytes nobody pinned; 2
├── AccessDenied      a gated model without a token, or with one that may not have it; 3
└── Unreachable       a server does not answer, or not with what it should; 3
"""


class BuildError(Exception):
    """The base of what the build-time tools report in one line."""

    exit_code = 1


class PinError(BuildError):
    """The pins, or the profile that was asked for, are wrong."""


class SourceError(BuildError):
    """A source file is not the one that was pinned."""


class FolderError(BuildError):
    """The target folder holds something that these tools did not write."""


class ModelBroken(BuildError):
    """A model of an assembled folder is missing, or does not load and run."""


class WrongBytes(BuildError):
    """What a server sent, or says it would send, is not what was pinned."""


class DiskFull(BuildError):
    """There is no room for the models."""


class ChoiceError(BuildError):
    """The models that were asked for cannot be had as asked."""

    exit_code = 2


class AccessDenied(BuildError):
    """A server wants a token, or another one."""

    exit_code = 3


class Unreachable(BuildError):
    """A server cannot be reached, or has not what it should have."""

    exit_code = 3

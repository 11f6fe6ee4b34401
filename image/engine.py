"""What builds images on this machine: buildah, or Docker whose daemon answers.

Raises `ImageError` naming the remedy where there is neither, or where a command fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

TOOLS = ("buildah", "debootstrap")
BUILDAH_ENV = {"BUILDAH_ISOLATION": "chroot"}
INSTALL = "run `apt-get install buildah debootstrap`, or install Docker"


class ImageError(RuntimeError):
    """One line that says what is wrong and what to do."""


def find_engine(wanted: str | None = None) -> str:
    """Return ``buildah`` or ``docker``.

    Args:
        wanted: One of them, if the caller insists.
    """
    for name in (wanted,) if wanted else ("buildah", "docker"):
        if shutil.which(name) and (name != "docker" or _answers()):
            return name
    raise ImageError(f"{wanted or 'neither buildah nor a Docker daemon'} is not here: {INSTALL}")


def _answers() -> bool:
    try:
        run("docker", "info")
    except ImageError:
        return False
    return True


def ensure_tools() -> None:
    """Have buildah and debootstrap here, by apt where that can be; both want root."""
    if os.geteuid() != 0:
        raise ImageError("buildah and debootstrap want root: run `sudo make test-image`")
    missing = [name for name in TOOLS if shutil.which(name) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise ImageError(f"{' and '.join(missing)} wanted: install them, there is no apt-get here")
    run("apt-get", "update", "--quiet")
    run("apt-get", "install", "--quiet", "--yes", "--no-install-recommends", *missing)


def run(*command: str, env: Mapping[str, str] | None = None, shown: bool = False) -> str:
    """Run a command and return what it printed.

    Args:
        command: And its arguments.
        env: More variables.
        shown: Let it print instead; then an empty string is returned.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **BUILDAH_ENV, **(env or {})},
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.PIPE,
            text=True,
            check=False,
        )
    except FileNotFoundError as exc:
        raise ImageError(f"{command[0]} is not here: {INSTALL}") from exc
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-1:] or ["see above"]
        raise ImageError(f"`{' '.join(command[:3])} …` ended with {done.returncode}: {said[0]}")
    return done.stdout or ""


def main() -> int:
    """``python -m image.engine``: have the tools here, or say in a line what is wanted."""
    try:
        ensure_tools()
    except ImageError as exc:
        print(f"image: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

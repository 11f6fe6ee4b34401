"""Find what builds images on this machine: buildah, or Docker whose daemon answers.

Also runs commands. Raises `ImageError`, which names the remedy.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping

BUILDAH_ENV = {"BUILDAH_ISOLATION": "chroot"}
INSTALL = "run `apt-get install buildah`, or install Docker"


class ImageError(RuntimeError):
    """One line that says what is wrong and what to do."""


def find_engine(wanted: str | None = None) -> str:
    """Return ``buildah`` or ``docker``; the one that is `wanted`, if the caller insists."""
    for name in (wanted,) if wanted else ("buildah", "docker"):
        if shutil.which(name) and (name != "docker" or _daemon_answers()):
            return name
    missing = f"{wanted} is" if wanted else "neither buildah nor a Docker daemon is"
    raise ImageError(f"{missing} not available: {INSTALL}")


def _daemon_answers() -> bool:
    try:
        run("docker", "info")
    except ImageError:
        return False
    return True


def run(*command: str, env: Mapping[str, str] | None = None, shown: bool = False) -> str:
    """Run a command and return its standard output; shown, it prints, and nothing is returned."""
    pipe = None if shown else subprocess.PIPE
    environ = {**os.environ, **BUILDAH_ENV, **(env or {})}
    try:
        done = subprocess.run(
            command, env=environ, stdout=pipe, stderr=pipe, text=True, check=False
        )
    except FileNotFoundError as exc:
        raise ImageError(f"{command[0]} is not installed: {INSTALL}") from exc
    if done.returncode:
        said = (done.stderr or "").strip().splitlines()[-1:] or ["see its output above"]
        raise ImageError(f"`{' '.join(command[:3])} …` exited with {done.returncode}: {said[0]}")
    return done.stdout or ""


def exit_code(program: Callable[[], None]) -> int:
    """Run a program; print an `ImageError` as one line and return 1, else return 0."""
    try:
        program()
    except ImageError as exc:
        print(f"image: {exc}", file=sys.stderr)
        return 1
    return 0

"""A base for the image where no registry can be reached: Debian bookworm with its own Python 3.11.

Takes the tools ``debootstrap`` and ``buildah``, and Debian's mirror from ``DEBIAN_MIRROR``, else
debootstrap's own; leaves an image in buildah's storage. Development and tests use it; releases are
built on the Dockerfile's own base, which has the same Debian and Python minor version.

Raises `ImageError` naming the remedy.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from image.engine import ImageError, run

NAME = "localhost/bucketscribe-base:bookworm"
PACKAGES = "ca-certificates,python3,python3-venv"
NOT_SHIPPED = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "dev/")


def ensure_base() -> str:
    """Return the base image's name; make the image first where there is none."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={NAME}"):
        return NAME
    if os.geteuid() != 0:
        raise ImageError("debootstrap wants root: run `sudo make image` or set BASE_IMAGE")
    with tempfile.TemporaryDirectory(prefix="image-base-") as folder:
        root = Path(folder, "root")
        mirror = os.environ.get("DEBIAN_MIRROR", "").split()
        options = ("--variant=minbase", f"--include={PACKAGES}")
        run("debootstrap", *options, "bookworm", str(root), *mirror)
        archive = Path(folder, "root.tar")
        _pack(root, archive)
        _import(archive)
    return NAME


def _pack(root: Path, archive: Path) -> None:
    """Pack the tree without what apt downloaded, as Debian's own images come."""

    def kept(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if member.name.startswith(NOT_SHIPPED) and not member.isdir() else member

    with tarfile.open(archive, "w") as tar:
        for path in sorted(root.iterdir()):
            tar.add(path, path.name, filter=kept)


def _import(archive: Path) -> None:
    container = run("buildah", "from", "scratch").strip()
    try:
        run("buildah", "add", "--quiet", container, str(archive), "/")
        run("buildah", "config", "--cmd", "/bin/bash", container)
        run("buildah", "commit", "--quiet", container, NAME)
    finally:
        run("buildah", "rm", container)

"""A base for the image on a machine that reaches no registry, as root.

Debian bookworm with its own Python 3.11, by debootstrap, from ``DEBIAN_MIRROR``.
"""

from __future__ import annotations

import os
import tarfile
import tempfile
from pathlib import Path

from image.engine import run

BASE = "localhost/bucketscribe-base:bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-venv"
NOT_SHIPPED = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "dev/")


def ensure_base() -> str:
    """Return the base image's name; make the image first where there is none."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return BASE
    with tempfile.TemporaryDirectory(prefix="image-base-") as folder:
        root, archive = Path(folder, "root"), Path(folder, "root.tar")
        mirror = os.environ.get("DEBIAN_MIRROR", "").split()
        packages = ("--variant=minbase", f"--include={BASE_PACKAGES}")
        run("debootstrap", *packages, "bookworm", str(root), *mirror)
        with tarfile.open(archive, "w") as tar:
            for path in sorted(root.iterdir()):
                tar.add(path, path.name, filter=_shipped)
        _import(archive)
    return BASE


def _shipped(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out what apt downloaded, as Debian's own images do."""
    return None if member.name.startswith(NOT_SHIPPED) and not member.isdir() else member


def _import(archive: Path) -> None:
    container = run("buildah", "from", "scratch").strip()
    try:
        run("buildah", "add", "--quiet", container, str(archive), "/")
        run("buildah", "config", "--cmd", "/bin/bash", container)
        run("buildah", "commit", "--quiet", container, BASE)
    finally:
        run("buildah", "rm", container)

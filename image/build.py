"""Build the image.

``python -m image.build`` reads ``PROFILE``, ``BASE_IMAGE``, ``TAG``, ``LANGUAGES``,
``WHISPER_MODEL``, ``ENGINE`` and the hub's token (``HF_TOKEN_FILE`` or ``HF_TOKEN``) from the
environment. ``BASE_IMAGE=debootstrap`` makes a base first: Debian bookworm with its own Python
3.11, from ``DEBIAN_MIRROR``, for machines that reach no registry. Raises `ImageError`.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image.engine import ImageError, exit_code, find_engine, run
from image.requirements import ROOT, write_secrets

BUILD_ARGUMENTS = ("PROFILE", "LANGUAGES", "WHISPER_MODEL", "BASE_IMAGE")
BASE = "localhost/bucketscribe-base:bookworm"
BASE_PACKAGES = "ca-certificates,python3,python3-venv"
NOT_SHIPPED = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "dev/")


def version() -> str:
    """Return the version of this tree, which stands in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


@dataclass(frozen=True)
class BuildOptions:
    """The image's name, build arguments, and secrets as `id=…,src=…` or `id=…,env=…`."""

    tag: str
    arguments: Mapping[str, str]
    secrets: tuple[str, ...]


def read_options(environ: Mapping[str, str]) -> BuildOptions:
    """Read the variables; the Dockerfile has defaults for all but the image's name."""
    arguments = {name: environ[name] for name in BUILD_ARGUMENTS if environ.get(name)}
    if arguments.get("BASE_IMAGE") == "debootstrap":
        arguments["BASE_IMAGE"] = ensure_base()
    profile = arguments.get("PROFILE", "production")
    tag = environ.get("TAG") or f"localhost/bucketscribe:{version()}-{profile}"
    token: tuple[str, ...] = ()
    if environ.get("HF_TOKEN_FILE"):
        token = (f"id=hf_token,src={environ['HF_TOKEN_FILE']}",)
    elif environ.get("HF_TOKEN"):
        token = ("id=hf_token,env=HF_TOKEN",)
    labels = {"VERSION": version(), "REVISION": environ.get("REVISION") or "unknown"}
    return BuildOptions(tag, {**labels, **arguments}, token)


def build(engine: str, options: BuildOptions, context: Path = ROOT) -> None:
    """Build the image; this machine's package index and certificates are secrets of the build."""
    command = [engine, "build", "--network", "host", "--tag", options.tag]
    if engine == "buildah":
        # One layer a step, in the format that every engine and registry takes.
        command += ["--layers", "--force-rm", "--format", "docker"]
    for name, value in options.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        for secret in (*write_secrets(Path(folder)), *options.secrets):
            command += ["--secret", secret]
        run(*command, str(context), env={"DOCKER_BUILDKIT": "1"}, shown=True)


def ensure_base() -> str:
    """Return the base image's name; make the image first where there is none."""
    if run("buildah", "images", "--quiet", "--filter", f"reference={BASE}"):
        return BASE
    if os.geteuid() != 0:
        raise ImageError("debootstrap needs root: run `sudo make image`, or set BASE_IMAGE")
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


def main() -> None:
    """Build, and print how long it took."""
    started = time.monotonic()
    engine = find_engine(os.environ.get("ENGINE"))
    options = read_options(os.environ)
    build(engine, options)
    print(f"{options.tag} built in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(exit_code(main))

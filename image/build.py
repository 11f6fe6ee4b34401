"""Build the image, print its size by layer and what of it nobody needs.

``python -m image.build`` reads ``PROFILE``, ``BASE_IMAGE``, ``TAG``, ``LANGUAGES``,
``WHISPER_MODEL``, ``ENGINE`` from the environment, which is where ``make image VARIABLE=…`` puts
them; ``BASE_IMAGE=debootstrap`` makes a base first. The token of the hub comes from
``HF_TOKEN_FILE`` or ``HF_TOKEN``, as the builder has it, and is a build secret.

A base for the image where no registry can be reached: Debian bookworm with its own Python 3.11.

Takes the tools ``debootstrap`` and ``buildah``, and Debian's mirror from ``DEBIAN_MIRROR``, else
debootstrap's own; leaves an image in buildah's storage. Development and tests use it; releases are
built on the Dockerfile's own base, which has the same Debian and Python minor version.

Raises `ImageError` naming the remedy.
"""

from __future__ import annotations

import os
import sys
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image.engine import ImageError, find_engine, run
from image.requirements import ROOT, write_secrets

NAME = "localhost/bucketscribe-base:bookworm"
PACKAGES = "ca-certificates,python3,python3-venv"
NOT_SHIPPED = ("var/cache/apt/", "var/lib/apt/lists/", "var/log/", "dev/")


def version() -> str:
    """Return the version of this tree, which stands in pyproject.toml alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])


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


BUILD_ARGUMENTS = ("PROFILE", "LANGUAGES", "WHISPER_MODEL", "BASE_IMAGE")
DEBOOTSTRAP = "debootstrap"


@dataclass(frozen=True)
class Order:
    """What to build.

    Attributes:
        tag: The image's name.
        arguments: Of the Dockerfile.
        secrets: `id=…,src=…` or `id=…,env=…` each.
    """

    tag: str
    arguments: Mapping[str, str]
    secrets: tuple[str, ...] = ()


def read_order(environ: Mapping[str, str]) -> Order:
    """Read the variables; the Dockerfile has defaults for all but the name."""
    arguments = {name: environ[name] for name in BUILD_ARGUMENTS if environ.get(name)}
    if arguments.get("BASE_IMAGE") == DEBOOTSTRAP:
        arguments["BASE_IMAGE"] = ensure_base()
    profile = arguments.get("PROFILE", "production")
    tag = environ.get("TAG") or f"localhost/bucketscribe:{version()}-{profile}"
    token: tuple[str, ...] = ()
    if environ.get("HF_TOKEN_FILE"):
        token = (f"id=hf_token,src={environ['HF_TOKEN_FILE']}",)
    elif environ.get("HF_TOKEN"):
        token = ("id=hf_token,env=HF_TOKEN",)
    labels = {"VERSION": version(), "REVISION": environ.get("REVISION") or "unknown"}
    return Order(tag, {**labels, **arguments}, token)


def build(engine: str, order: Order, context: Path = ROOT) -> None:
    """Build it; the machine's package index and certificates are secrets of the build."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        secrets = (*write_secrets(Path(folder)), *order.secrets)
        run(
            *_command(engine, order, secrets),
            str(context),
            env={"DOCKER_BUILDKIT": "1"},
            shown=True,
        )


def _command(engine: str, order: Order, secrets: Sequence[str]) -> list[str]:
    command = [engine, "build", "--network", "host", "--tag", order.tag]
    if engine == "buildah":
        # One layer a step; the format that keeps HEALTHCHECK.
        command += ["--layers", "--force-rm", "--format", "docker"]
    for name, value in order.arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for secret in secrets:
        command += ["--secret", secret]
    return command


def main() -> int:
    """Build, and print what came of it."""
    started = time.monotonic()
    try:
        engine = find_engine(os.environ.get("ENGINE"))
        order = read_order(os.environ)
        build(engine, order)
        print(f"{order.tag} built in {time.monotonic() - started:.0f} s")
        if engine == "buildah":
            from image.listing import report

            print(report(order.tag))
    except ImageError as exc:
        print(f"image: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Build the image.

``python -m image.build`` reads ``PROFILE``, ``BASE_IMAGE``, ``TAG``, ``LANGUAGES``,
``WHISPER_MODEL``, ``ENGINE`` and the hub's token (``HF_TOKEN_FILE`` or ``HF_TOKEN``) from the
environment. Raises `ImageError`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from image.engine import exit_code, find_engine, run
from image.requirements import ROOT, write_secrets

BUILD_ARGUMENTS = ("PROFILE", "LANGUAGES", "WHISPER_MODEL", "BASE_IMAGE")


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


def main() -> None:
    """Build, and print how long it took."""
    started = time.monotonic()
    engine = find_engine(os.environ.get("ENGINE"))
    options = read_options(os.environ)
    build(engine, options)
    print(f"{options.tag} built in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    sys.exit(exit_code(main))

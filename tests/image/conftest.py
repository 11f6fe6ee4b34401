"""The image, built once for all tests that look into it or run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from image.build import build, read_options
from tests.image.base import ensure_base
from tests.image.listing import Layer, configuration, list_layers, mounted

ROOT = Path(__file__).parents[2]
TAG = "localhost/bucketscribe:test"
SECRET = "hf_" + "MadeUpForTheTests" + "0123456789"


@dataclass(frozen=True)
class Image:
    """The built image, its files laid out as a container has them."""

    config: dict[str, Any]
    layers: list[Layer]
    root: Path
    config_file: Path

    def command(self, *command: str, network: str = "none", bind: Path | None = None) -> list[str]:
        """Return what starts a command in the image; without one, the image's own."""
        bound = ["--bind", str(bind)] if bind else []
        starter = [sys.executable, "-m", "tests.image.start", "--network", network, *bound]
        return [*starter, str(self.config_file), str(self.root), *command]

    def run(self, *command: str, bind: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command in the image to its end, with no network but loopback."""
        return subprocess.run(
            self.command(*command, bind=bind),
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def python(self, code: str) -> str:
        """Run Python in the image; return what it printed."""
        done = self.run("python", "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout


def build_from(context: Path, tag: str = TAG) -> None:
    """Build the demo image with a made-up token."""
    environ = {"PROFILE": "demo", "BASE_IMAGE": ensure_base(), "TAG": tag, "HF_TOKEN": SECRET}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", SECRET)
        build("buildah", read_options(environ), context)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image, and show its files; TEST_IMAGE names one that is built already."""
    tag = os.environ.get("TEST_IMAGE")
    if tag is None:
        build_from(ROOT)
        tag = TAG
    config = configuration(tag)
    file = tmp_path_factory.mktemp("image") / "config.json"
    file.write_text(json.dumps(config["config"]), encoding="utf-8")
    with mounted(tag) as root:
        yield Image(config["config"], list_layers(tag), root, file)

"""The demo folder, assembled once for every test that looks at it, and a hub on loopback."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from builder.fetch_models import fetch
from builder.pins import PackageProfile, load_profile
from tests.unit.builder.loopback_hub import LoopbackHub, serve
from tests.unit.builder.stand_ins import fill


@pytest.fixture(scope="session")
def demo_profile() -> PackageProfile:
    """The pins of the demo profile."""
    profile = load_profile("demo")
    assert isinstance(profile, PackageProfile)
    return profile


@pytest.fixture(scope="session")
def models_dir(demo_profile: PackageProfile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo folder without the multilingual model; not to be written into."""
    folder = tmp_path_factory.mktemp("demo") / "models"
    fetch(demo_profile, folder)
    return folder


@pytest.fixture
def copied_dir(models_dir: Path, tmp_path: Path) -> Path:
    """A copy of the demo folder, alone in its parent, whose files may be removed or replaced."""
    return Path(shutil.copytree(models_dir, tmp_path / "models", copy_function=_link_or_copy))


def _link_or_copy(source: str, target: str) -> None:
    """Link, which is quick; but NLTK refuses to open a file that has two names."""
    if "nltk_data" in source:
        shutil.copy(source, target)
    else:
        os.link(source, target)


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    """A hub on loopback that has every file of the tiny production profile."""
    hub = LoopbackHub()
    fill(hub)
    with serve(hub) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        server.shutdown()
        thread.join()


@pytest.fixture
def no_sleep() -> list[float]:
    """What would have been slept: pass its `append` as `sleep`."""
    return []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB; skipped where none can be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)

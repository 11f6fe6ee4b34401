"""What an image compiled is used where the image cannot be written to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from numba.core import config

from worker.engines.alignment import ctc
from worker.engines.alignment.ctc import CopiedCacheLocator

SOURCE = ctc.__file__


@pytest.fixture
def baked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an image's folder with compiled code in it, and a temporary folder beside it."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path / "baked"))
    folder = Path(CopiedCacheLocator(ctc.fill_trellis, SOURCE).get_cache_path())
    folder.mkdir(parents=True)
    (folder / "index.nbi").write_bytes(b"compiled")
    return folder


@pytest.fixture
def read_only(baked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be written to the image; the tests' user may write everywhere."""
    writes = CopiedCacheLocator.ensure_cache_path

    def ensure(self: CopiedCacheLocator) -> None:
        if str(self.get_cache_path()) == str(baked):
            raise OSError(30, "Read-only file system")
        writes(self)

    monkeypatch.setattr(CopiedCacheLocator, "ensure_cache_path", ensure)


@pytest.mark.usefixtures("read_only")
def test_a_folder_that_cannot_be_written_to_is_copied(baked: Path, tmp_path: Path) -> None:
    located = CopiedCacheLocator.from_function(ctc.fill_trellis, SOURCE)
    assert located is not None
    copy = Path(located.get_cache_path())
    assert copy == tmp_path / "tmp" / "numba" / baked.name
    assert (copy / "index.nbi").read_bytes() == b"compiled"


@pytest.mark.usefixtures("read_only")
def test_a_copy_that_is_there_is_kept(baked: Path, tmp_path: Path) -> None:
    first = CopiedCacheLocator.from_function(ctc.fill_trellis, SOURCE)
    assert first is not None
    (Path(first.get_cache_path()) / "index.nbi").write_bytes(b"compiled since")
    second = CopiedCacheLocator.from_function(ctc.backtrack, SOURCE)
    assert second is not None
    assert (Path(second.get_cache_path()) / "index.nbi").read_bytes() == b"compiled since"


def test_a_folder_that_can_be_written_to_is_used_itself(baked: Path) -> None:
    located = CopiedCacheLocator.from_function(ctc.fill_trellis, SOURCE)
    assert located is not None
    assert located.get_cache_path() == str(baked)


@pytest.mark.usefixtures("read_only")
def test_where_nothing_can_be_written_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert CopiedCacheLocator.from_function(ctc.fill_trellis, SOURCE) is None

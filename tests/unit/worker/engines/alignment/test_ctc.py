"""What is said of each frame, and numba's cache where nothing can be written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from numba.core import config

from worker.engines.alignment import ctc
from worker.engines.alignment.ctc import CopiedCacheLocator, find_path, warm

SOURCE = ctc.__file__


def test_each_frame_has_the_probability_of_what_it_says() -> None:
    emission = np.log([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.4, 0.6]]).astype(np.float32)
    path = find_path(emission, np.array([1, 1]), blank=0)
    assert path is not None
    assert path.bounds.tolist() == [1, 3, 4]
    assert np.exp(path.log_probabilities) == pytest.approx([0.8, 0.7, 0.6])


def test_numbers_that_are_none_have_no_path() -> None:
    assert find_path(np.full((5, 3), np.nan, np.float32), np.array([1, 2]), blank=0) is None


def test_compiled_code_runs_where_nothing_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import numba

    compile_it = numba.njit

    def refuse(**options: bool) -> object:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return compile_it(**options)

    monkeypatch.setattr(numba, "njit", refuse)
    monkeypatch.setattr(ctc, "_functions", [])
    warm()
    assert len(ctc._functions) == 1


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
def test_a_folder_that_cannot_be_written_to_is_copied_once(baked: Path, tmp_path: Path) -> None:
    located = CopiedCacheLocator.from_function(ctc.fill_trellis, SOURCE)
    assert located is not None
    copy = Path(located.get_cache_path())
    assert copy == tmp_path / "tmp" / "numba" / baked.name
    assert (copy / "index.nbi").read_bytes() == b"compiled"
    (copy / "index.nbi").write_bytes(b"compiled since")
    again = CopiedCacheLocator.from_function(ctc.backtrack, SOURCE)
    assert again is not None
    assert again.get_cache_path() == str(copy)
    assert (copy / "index.nbi").read_bytes() == b"compiled since"


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

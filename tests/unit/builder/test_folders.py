"""A folder that appears at once, or not at all."""

import errno
from contextlib import nullcontext
from pathlib import Path

import pytest

from builder.errors import DiskFull
from builder.folders import fresh_folder


@pytest.mark.parametrize("number", [None, errno.ENOSPC, errno.EDQUOT])
def test_filled_folder_takes_the_place_of_the_older_one(tmp_path: Path, number: int | None) -> None:
    """A disk that fills up is named, and leaves what was there; no scratch folder stays."""
    into = tmp_path / "models"
    into.mkdir()
    (into / "older").write_text("x")
    full = pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full: free some space")
    with full if number else nullcontext(), fresh_folder(into) as fresh:
        (fresh / "weights").write_bytes(b"weights")
        if number:
            raise OSError(number, "no room")
    assert [path.name for path in into.iterdir()] == ["older" if number else "weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

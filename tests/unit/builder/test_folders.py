"""A folder that appears at once, or not at all."""

import errno
from pathlib import Path

import pytest

from builder.errors import DiskFull
from builder.folders import fresh_folder


def fill(place: Path, error: OSError | None = None) -> None:
    with fresh_folder(place / "models") as fresh:
        (fresh / "weights").write_bytes(b"weights")
        if error:
            raise error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_fills_up_while_assembling_is_named(tmp_path: Path, number: int) -> None:
    """Nothing is left of the folder."""
    with pytest.raises(DiskFull, match=f"the disk of {tmp_path} is full: free some space"):
        fill(tmp_path, OSError(number, "no room"))
    assert list(tmp_path.iterdir()) == []


def test_filled_folder_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    """What the older one held is gone, and so is the scratch folder."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "older").write_text("x")
    fill(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

"""A folder that appears at once, or not at all."""

from pathlib import Path

import pytest

from builder.errors import DiskFull
from builder.folders import fresh_folder


def fill_with_a_megabyte(place: Path) -> None:
    with fresh_folder(place / "models") as fresh:
        (fresh / "weights").write_bytes(bytes(1_000_000))


def test_disk_that_fills_up_while_assembling_is_named(small_disk: Path) -> None:
    """512 KiB: nothing is left of it."""
    with pytest.raises(DiskFull, match=f"the disk of {small_disk} is full"):
        fill_with_a_megabyte(small_disk)
    assert list(small_disk.iterdir()) == []


def test_filled_folder_takes_the_place_of_the_older_one(tmp_path: Path) -> None:
    """What the older one held is gone, and so is the scratch folder."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "older").write_text("x")
    fill_with_a_megabyte(tmp_path)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["weights"]
    assert [path.name for path in tmp_path.iterdir()] == ["models"]

"""What the image installs is what is pinned, without what it goes without."""

from __future__ import annotations

from pathlib import Path

import pytest

from image.requirements import (
    PINS,
    LeftOutError,
    demo_pins,
    image_pins,
    read_left_out,
    split_pins,
    without,
)

TEXT = """\
a==1 \\
    --hash=sha256:00 \\
    --hash=sha256:01
    # via b
b[c]==2 \\
    --hash=sha256:02
"""


def test_the_files_are_current() -> None:
    remedy = "run `python -m image.requirements`"
    assert (PINS / "image.txt").read_text() == image_pins(), remedy
    assert (PINS / "image-demo.txt").read_text() == demo_pins(), remedy


def test_a_pin_keeps_its_hashes() -> None:
    assert without(TEXT, {"b"}) == TEXT.partition("b[c]")[0]
    assert all("--hash=sha256:" in lines for lines in split_pins(image_pins()).values())
    assert all("--hash=sha256:" in lines for lines in split_pins(demo_pins()).values())


def test_what_is_not_pinned_cannot_be_left_out() -> None:
    with pytest.raises(LeftOutError, match="gone is not in"):
        without(TEXT, {"a", "gone"})


def test_every_wheel_left_out_is_left_out_once_and_for_a_reason() -> None:
    names = [name for entry in read_left_out() for name in entry.names]
    assert len(names) == len(set(names))
    assert all(entry.why for entry in read_left_out())


def test_nothing_that_the_worker_imports_by_name_is_left_out() -> None:
    names = {name.replace("-", "_") for entry in read_left_out() for name in entry.names}
    root = PINS.parent
    sources = [*Path(root, "worker").rglob("*.py"), root / "handler.py"]
    for source in sources:
        lines = source.read_text(encoding="utf-8").splitlines()
        imported = {
            line.split()[1].split(".")[0]
            for line in lines
            if line.lstrip().startswith(("import ", "from "))
        }
        assert imported & names == set(), source

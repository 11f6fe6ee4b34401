"""An image's bytes are accounted for by wheel, model, code and base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from image.listing import Layer, account, describe_contents, describe_layers


def install(packages: Path, name: str, size_bytes: int) -> None:
    """Install a wheel of one file, with a record and with bytecode."""
    module = packages / f"{name}.py"
    module.write_bytes(b"#" * size_bytes)
    (packages / "__pycache__").mkdir(exist_ok=True)
    (packages / "__pycache__" / f"{name}.pyc").write_bytes(b"0" * 7)
    record = packages / f"{name}-1.dist-info" / "RECORD"
    record.parent.mkdir()
    pyc = f"__pycache__/{name}.pyc"  # pip notes what it compiled, uv does not
    record.write_text(f"{name}.py,sha256=x,{size_bytes}\n{pyc},,\nmissing.py,,\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the files of a small image."""
    packages = tmp_path / "opt/venv/lib/python3.11/site-packages"
    packages.mkdir(parents=True)
    for name, size_bytes in (("torch", 100), ("nvidia_cudnn", 200), ("numpy", 50)):
        install(packages, name, size_bytes)
    (tmp_path / "models").mkdir()
    profile = {"files": {"a.bin": {"bytes": 30}, "b.bin": {"bytes": 10}}}
    (tmp_path / "models/profile.json").write_text(json.dumps(profile))
    (tmp_path / "app").mkdir()
    (tmp_path / "app/handler.py").write_bytes(b"#" * 10)
    (tmp_path / "app/handler.pyc").write_bytes(b"#" * 99)
    return tmp_path


def layer(size_bytes: int, step: str = "") -> Layer:
    """Return a layer of a size."""
    return Layer("sha256:0", size_bytes, Path(), step)


def test_each_byte_is_needed_or_excess(root: Path) -> None:
    contents = account(root, [layer(600), layer(450)])
    assert contents.needed == {
        "base": 600, "torch": 100, "CUDA libraries": 200, "other wheels": 50, "models": 40,
        "code": 10,
    }  # fmt: skip
    assert (contents.total, contents.bytecode) == (1050, 21)
    assert contents.excess == pytest.approx(0.05)
    assert "5.0%" in describe_contents(contents)


def test_layers_are_listed_the_last_first_by_what_they_do() -> None:
    install = (
        "/bin/sh -c --mount=type=secret,id=x if [ -f /run/x ]; then . /run/x; fi && "
        "install `this|that`"
    )
    copy = f"/bin/sh -c #(nop) COPY dir:{'0123456789ab' + 'c' * 52} in /app"
    table = describe_layers([layer(5_000_000, copy), layer(1_500_000, install)])
    assert table.splitlines()[2:] == [
        "| 1.5 MB | `install 'this\\|that'` |",
        "| 5.0 MB | `COPY dir:0123456789ab in /app` |",
    ]

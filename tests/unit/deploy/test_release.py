"""The version is in one place."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[3]


def ours() -> Iterator[Path]:
    """Walk what is written by us and read by programs, but tests."""
    apart = {"models", "logs", "tests", "build", "dist"}
    for top in ROOT.iterdir():
        if top.is_file():
            yield top
        elif top.name not in apart and (top.name[0] != "." or top.name in (".github", ".runpod")):
            yield from (path for path in top.rglob("*") if path.is_file())


def test_no_other_file_has_the_version() -> None:
    """But pins, where another package may have the same number, and the changelog."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    number = re.compile(rf"(?<![\d.]){re.escape(version)}(?![\d.])")
    code = [x for x in ours() if re.search(r"\.(py|toml|ya?ml|json|service|lock)$|file$", x.name)]
    found = {
        (str(path.relative_to(ROOT)), line.strip())
        for path in code
        for line in path.read_text(encoding="utf-8").splitlines()
        if number.search(line)
    }
    pins = {(name, line) for name, line in found if re.search(r"==|{ version = ", line)}
    assert len(code) > 100
    assert found - pins == {("pyproject.toml", f'version = "{version}"')}

"""The version is in one place; a release is made of it or not at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.release import ROOT, NotReleasable, main, notes, version

CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-11-30

### Added
- A thing.

## [1.1.0] - 2026-11-01

### Fixed
- Another.
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree at version 1.2.0."""
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nversion = "1.2.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_notes_are_the_changelogs_section(tree: Path) -> None:
    assert notes("v1.2.0", tree) == "### Added\n- A thing.\n"


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2.1", "v1.2.0-rc1", ""])
def test_another_tag_is_refused_by_name(tree: Path, tag: str) -> None:
    with pytest.raises(NotReleasable, match=r"pyproject.toml says 1\.2\.0: tag v1\.2\.0"):
        notes(tag, tree)


@pytest.mark.parametrize("heading", ["## [1.2.0]", "## [1X2.0] - 2026-11-30", "## 1.2.0"])
def test_a_version_without_changelog_is_refused(tree: Path, heading: str) -> None:
    changelog = CHANGELOG.replace("## [1.2.0] - 2026-11-30", heading)
    (tree / "CHANGELOG.md").write_text(changelog)
    with pytest.raises(NotReleasable, match=r"move \[Unreleased\] there"):
        notes("v1.2.0", tree)


def test_the_command_says_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["v0.0.0-never"]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert main([]) == 2


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
    number = re.compile(rf"(?<![\d.]){re.escape(version())}(?![\d.])")
    code = [x for x in ours() if re.search(r"\.(py|toml|ya?ml|json|service|lock)$|file$", x.name)]
    found = {
        (str(path.relative_to(ROOT)), line.strip())
        for path in code
        for line in path.read_text(encoding="utf-8").splitlines()
        if number.search(line)
    }
    pins = {(name, line) for name, line in found if re.search(r"==|{ version = ", line)}
    assert len(code) > 100
    assert found - pins == {("pyproject.toml", f'version = "{version()}"')}

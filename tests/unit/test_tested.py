"""The image's and the page's tests are due where what they test has changed, or nobody can know."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".ci" / "tested"
IMAGE = {
    "Dockerfile": "COPY requirements/image.txt /a/\nCOPY handler.py worker ./\nCOPY --from=b c d\n",
    "requirements/image.txt": "a==1",
    "handler.py": "",
    "worker/runtime.py": "",
    "image/build.py": "",
    "tests/image/test_runs.py": "",
    "worker/new.py": "",
}
PAGE = {"bucketscribe_render/page/src/main.js": "", "tests/page/test_page.py": ""}
NEITHER = {"edge_client/cli.py": "", "worker/README.md": ""}
ALL = IMAGE | PAGE | NEITHER


def is_due(tree: Path, *arguments: str) -> bool:
    """Run the script of a tree."""
    command = [tree / ".ci" / "tested", *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository whose image and page were tested."""
    for name, text in ALL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "worker/new.py").unlink()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci")
    for arguments in (["--stamp"], []):
        assert not is_due(tmp_path, "image", *arguments)
        assert not is_due(tmp_path, "page", *arguments)
    return tmp_path


@pytest.mark.parametrize("name", ALL)
def test_a_changed_or_new_file_makes_them_due_unless_it_does_not_count(
    tree: Path, name: str
) -> None:
    (tree / name).write_text(ALL[name] + "\nchanged")
    assert (is_due(tree, "image"), is_due(tree, "page")) == (name in IMAGE, name in PAGE)


@pytest.mark.parametrize("gone", [".git/HEAD", "tests/image/tested.sha256", "Dockerfile"])
def test_they_are_due_where_nobody_can_know(tree: Path, gone: str) -> None:
    (tree / gone).unlink()
    assert is_due(tree, "image")

"""The image's and the page's tests are due where what they test has changed, or nobody can know."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import tested

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


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose image and page were tested."""
    for name, text in ALL.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "worker/new.py").unlink()
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(tested, "ROOT", tmp_path)
    assert [tested.main([suite, "--stamp"]) for suite in tested.SUITES] == [0, 0]
    assert [tested.main([suite]) for suite in tested.SUITES] == [0, 0]
    return tmp_path


@pytest.mark.parametrize("name", ALL)
def test_a_changed_or_new_file_makes_them_due_unless_it_does_not_count(
    tree: Path, name: str
) -> None:
    (tree / name).write_text(ALL[name] + "\nchanged")
    assert (tested.main(["image"]), tested.main(["page"])) == (name in IMAGE, name in PAGE)


@pytest.mark.parametrize("gone", [".git/HEAD", "tests/image/tested.sha256", "Dockerfile"])
def test_they_are_due_where_nobody_can_know(tree: Path, gone: str) -> None:
    (tree / gone).unlink()
    assert tested.main(["image"]) == 1

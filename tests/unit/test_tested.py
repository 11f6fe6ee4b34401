"""The image's tests are due where what they test has changed, and where nobody can know."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from image import tested

FILES = {
    "Dockerfile": "COPY requirements/image.txt /a/\nCOPY handler.py worker ./\nCOPY --from=b c d\n",
    "requirements/image.txt": "a==1",
    "handler.py": "",
    "worker/runtime.py": "",
    "image/build.py": "",
    "tests/image/test_runs.py": "",
    "edge_client/cli.py": "",
    "worker/README.md": "",
}


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose image was tested."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(tested, "ROOT", tmp_path)
    assert tested.main(["--stamp"]) == 0
    return tmp_path


@pytest.mark.parametrize("name", [*FILES, "worker/new.py"])
def test_a_changed_or_new_file_makes_them_due_unless_it_does_not_count(
    tree: Path, name: str
) -> None:
    (tree / name).write_text(FILES.get(name, "") + "\nchanged")
    assert tested.main([]) == (name not in list(FILES)[6:])


@pytest.mark.parametrize("gone", [".git/HEAD", tested.STAMP, "Dockerfile"])
def test_they_are_due_where_nobody_can_know(tree: Path, gone: str) -> None:
    (tree / gone).unlink()
    assert tested.main([]) == 1

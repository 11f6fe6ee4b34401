"""What is built is read from the environment; what is missing is named with its remedy."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image.build import ROOT, read_options, version
from image.engine import ImageError, exit_code, find_engine, run

TEXT = (Path(__file__).parents[3] / "Dockerfile").read_text(encoding="utf-8")


def test_every_install_is_checked_by_hash() -> None:
    installs = [step for step in TEXT.split("&&") if re.search(r"\bpip (install|sync)\b", step)]
    assert ["--require-hashes" in step for step in installs] == [True] * 3
    # what builds a source distribution is fetched without a hash
    assert [bool(re.search("--only-binary :all:|--no-build", step)) for step in installs] == [
        True
    ] * 3


def test_every_action_is_a_commit() -> None:
    workflows = "".join(path.read_text() for path in (ROOT / ".github").rglob("*.yml"))
    used = re.findall(r"uses: (\S+)", workflows)
    assert len(used) >= 8
    assert [action for action in used if not re.search("@[0-9a-f]{40}$", action)] == []


def test_options_are_read_from_what_make_sets() -> None:
    """A token itself is never on the command line."""
    options = read_options({"PROFILE": "demo", "LANGUAGES": "", "HF_TOKEN": "hf_x"})
    assert options.tag == f"localhost/bucketscribe:{version()}-demo"
    assert options.arguments == {"PROFILE": "demo", "VERSION": version(), "REVISION": "unknown"}
    assert options.secrets == ("id=hf_token,env=HF_TOKEN",)
    assert read_options({"HF_TOKEN_FILE": "/t"}).secrets == ("id=hf_token,src=/t",)
    assert read_options({}).secrets == ()


def test_what_is_missing_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match="apt-get install buildah"):
        find_engine()
    with pytest.raises(ImageError, match="buildah is not installed"):
        run("buildah", "info")


def test_a_failed_command_is_one_line_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    script = "echo before >&2; echo sorry >&2; exit 3"
    assert exit_code(lambda: None) == 0
    assert exit_code(lambda: run("sh", "-c", script) and None) == 1
    assert capsys.readouterr().err == f"image: `sh -c {script} …` exited with 3: sorry\n"

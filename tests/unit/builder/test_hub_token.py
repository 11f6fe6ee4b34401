"""Where the token comes from; that it shows up nowhere."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from builder.download import read_token
from builder.errors import AccessDenied
from tests.unit.builder.loopback_hub import TOKEN, LoopbackHub
from tests.unit.builder.stand_ins import COMMUNITY, profile_of

ROOT = Path(__file__).parents[3]


def secret(environment: dict[str, str], path: Path) -> str | None:
    token = read_token(environment, path)
    return token and token.get_secret_value()


def test_variable_comes_before_files(tmp_path: Path) -> None:
    """What is set by hand is meant."""
    (tmp_path / "a").write_text("hf_file\n")
    (tmp_path / "b").write_text("hf_mounted\n")
    named = {"HF_TOKEN_FILE": str(tmp_path / "a")}
    assert secret({"HF_TOKEN": " hf_set\n"} | named, tmp_path / "b") == "hf_set"
    assert secret(named, tmp_path / "b") == "hf_file"
    assert secret({}, tmp_path / "b") == "hf_mounted"
    assert secret({}, tmp_path / "none") is None


@pytest.mark.parametrize("content", ["", "hf_one\nhf_two", "hf_ü"])
def test_what_cannot_be_a_token_is_refused_without_showing_it(tmp_path: Path, content: str) -> None:
    """An HTTP library would print a header that it cannot send."""
    (tmp_path / "a").write_text(content)
    with pytest.raises(AccessDenied, match="HF_TOKEN_FILE holds no token") as failure:
        read_token({"HF_TOKEN_FILE": str(tmp_path / "a")})
    assert "hf_" not in str(failure.value)


def test_file_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    """Not silently taken for no token."""
    with pytest.raises(AccessDenied, match="HF_TOKEN_FILE"):
        read_token({"HF_TOKEN_FILE": str(tmp_path / "none")})


def test_token_does_not_show_itself() -> None:
    """In a traceback, a debugger or a log."""
    assert TOKEN not in repr(read_token({"HF_TOKEN": TOKEN}))


def write_pins(hub: LoopbackHub, path: Path) -> None:
    """The tiny profile as a models.toml, beside the real demo profile."""
    profile = profile_of(hub)
    tables = []
    for model in profile.models:
        fields = model.model_dump(exclude_none=True, exclude_defaults=True)
        tables.append("\n".join(["[[production.models]]", *map(_toml, fields.items())]))
    file = profile.packaged.models[0].files[0].model_dump()
    packaged = ["[[production.packaged.models]]", 'kind = "vad"', 'name = "d"', 'folder = "vad"']
    packaged.append(_toml(("files", [file])))
    places = [_toml(item) for item in profile.places.model_dump().items()]
    distribution = '[production.packaged.distributions]\nbuilder = {version="0", licence="MIT"}'
    demo = "[demo]\nmodels = []\n[demo.distributions]"
    parts = [demo, "\n".join(["[production.places]", *places]), distribution]
    path.write_text("\n".join([*parts, *packaged, *tables]) + "\n")
    tomllib.loads(path.read_text())


def _toml(item: tuple[str, object]) -> str:
    return f"{item[0]} = {_value(item[1])}"


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{k}" = {_value(v)}' for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return str(value).lower() if isinstance(value, bool | int) else f'"{value}"'


@pytest.mark.parametrize("accepted", [True, False])
def test_token_is_in_no_output_file_or_process_list(
    hub: LoopbackHub, tmp_path: Path, accepted: bool
) -> None:
    """A whole build by a secret file, debugging logs on, watched while it downloads."""
    write_pins(hub, tmp_path / "pins.toml")
    (tmp_path / "secret").write_text(TOKEN + "\n")
    hub.accepted = accepted
    process_list: list[bytes] = []
    hub.before_sending = lambda name: process_list.extend(_arguments_and_environments())
    command = [
        *(sys.executable, "-W", "error", "-c", DEBUGGING),
        *("--profile", "production", "--pins", str(tmp_path / "pins.toml")),
        *("--into", str(tmp_path / "out" / "models"), "--downloads", str(tmp_path / "out" / "d")),
        *("--languages", "ja,de", "--whisper", "large-v3,small.en"),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "HF_TOKEN"}
    environment |= hub.environment(HF_TOKEN_FILE=str(tmp_path / "secret"))
    done = subprocess.run(
        command, env=environment, cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == (0 if accepted else 3), done.stderr
    assert any(f"Bearer {TOKEN}" == seen.authorization for seen in hub.seen)
    written = [p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()]
    haystack = [done.stdout, done.stderr, *written, *process_list]
    assert not [True for straw in haystack if TOKEN.encode() in straw]
    assert b"urllib3" in done.stderr  # the libraries did log
    if accepted:
        assert written
        assert any(b"--languages" in straw for straw in process_list)
    else:
        assert COMMUNITY.encode() in done.stderr.splitlines()[-1]


DEBUGGING = """
import logging, sys
logging.basicConfig(level=logging.DEBUG)
from builder.fetch_models import main
sys.exit(main(sys.argv[1:]))
"""


def _arguments_and_environments() -> list[bytes]:
    """What any process of this user can see of the others."""
    seen = []
    for process in Path("/proc").glob("[0-9]*"):
        for file in ("cmdline", "environ"):
            try:
                seen.append((process / file).read_bytes())
            except OSError:
                logging.debug("%s has ended", process)
    return seen

"""The Dockerfile, read."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from image import build
from image.engine import ImageError, ensure_tools, find_engine, run

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LAST_STAGE = TEXT[TEXT.rindex("\nFROM ") :]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"")


def test_python_is_process_1_and_nobody_special() -> None:
    assert LAST_STAGE.rstrip().endswith('CMD ["python", "-u", "handler.py"]')
    assert "\nUSER 10001:10001\n" in LAST_STAGE
    assert "ENTRYPOINT" not in TEXT


def test_models_are_shipped_before_code() -> None:
    assert LAST_STAGE.index("/models /models") < LAST_STAGE.index("/app /app")
    assert "COPY --from=" in LAST_STAGE
    assert not re.search(r"^COPY (?!--from=)", LAST_STAGE, re.M)


def test_secrets_are_mounted_and_never_arguments() -> None:
    assert not re.search(r"^(ARG|ENV)\b.*(TOKEN|KEY|SECRET|PASSWORD|INDEX)", TEXT, re.M)
    assert "--mount=type=secret,id=hf_token" in TEXT
    assert "http" not in TEXT


def test_every_install_is_checked_by_hash() -> None:
    installs = [step for step in TEXT.split("&&") if re.search(r"\bpip (install|sync)\b", step)]
    assert len(installs) == 3
    assert all("--require-hashes" in step for step in installs)


def test_an_order_is_read_from_what_make_sets() -> None:
    order = build.read_order(
        {"PROFILE": "demo", "BASE_IMAGE": "x", "LANGUAGES": "", "HF_TOKEN_FILE": "/t"}
    )
    assert order.tag == f"localhost/bucketscribe:{build.version()}-demo"
    assert order.arguments["PROFILE"] == "demo"
    assert "LANGUAGES" not in order.arguments
    assert order.secrets == ("id=hf_token,src=/t",)


def test_a_token_in_the_environment_is_not_on_the_command_line() -> None:
    assert build.read_order({"HF_TOKEN": "hf_x"}).secrets == ("id=hf_token,env=HF_TOKEN",)


def test_without_an_engine_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ImageError, match="apt-get install buildah debootstrap"):
        find_engine()
    with pytest.raises(ImageError, match="buildah is not here"):
        run("buildah", "info")


def test_without_root_or_apt_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(ImageError, match="^buildah and debootstrap wanted: install them"):
        ensure_tools()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ImageError, match="sudo make test-image"):
        ensure_tools()


def test_a_command_that_fails_is_told_in_a_line() -> None:
    with pytest.raises(ImageError, match="ended with 3: sorry") as caught:
        run("sh", "-c", "echo before >&2; echo sorry >&2; exit 3")
    assert "\n" not in str(caught.value)

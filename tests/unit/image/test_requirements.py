"""The image installs pins alone, from where this machine gets its packages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from image import requirements
from image.engine import ImageError
from image.requirements import PINS, demo_pins, image_pins, index_settings, split_pins, without

MIRROR = "https://mirror.example/simple"
UV = {"UV_DEFAULT_INDEX": "https://uv.example"}
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


def test_a_pin_keeps_its_hashes_and_what_is_not_pinned_cannot_be_left_out() -> None:
    assert without(TEXT, {"b"}) == TEXT.partition("b[c]")[0]
    pins = [*split_pins(image_pins()).values(), *split_pins(demo_pins()).values()]
    assert all("--hash=sha256:" in lines for lines in pins)
    with pytest.raises(ImageError, match=r"gone is not in worker.txt: .*left_out.toml"):
        without(TEXT, {"a", "gone"})


def test_nothing_that_the_worker_imports_by_name_is_left_out() -> None:
    names = [name.replace("-", "_") for name in requirements.read_left_out()]
    assert len(names) == len(set(names))
    sources = [*(PINS.parent / "worker").rglob("*.py"), PINS.parent / "handler.py"]
    imported = {
        name
        for source in sources
        for name in re.findall(r"^\s*(?:import|from) (\w+)", source.read_text("utf-8"), re.M)
    }
    assert imported & set(names) == set()


@pytest.mark.parametrize(
    ("uv", "pip", "settings"),
    [
        ({}, {"index-url": MIRROR}, {"PIP_INDEX_URL": MIRROR, "UV_DEFAULT_INDEX": MIRROR}),
        (UV, {"index-url": MIRROR}, {"PIP_INDEX_URL": MIRROR, **UV}),
        (  # folders of this machine say nothing inside the build
            {},
            {"extra-index-url": f"file:///srv/simple {MIRROR}", "find-links": "/srv/wheels"},
            {"PIP_EXTRA_INDEX_URL": MIRROR, "UV_INDEX": MIRROR},
        ),
    ],
)
def test_pips_index_is_uvs_too(
    uv: dict[str, str], pip: dict[str, str], settings: dict[str, str]
) -> None:
    assert index_settings(uv, pip) == settings


def test_pips_file_is_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(f"[global]\nindex-url = {MIRROR}\nextra-index-url =\n  {MIRROR}/a\n  x=y\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    assert requirements.pip_settings()["index-url"] == MIRROR
    assert requirements.pip_settings()["extra-index-url"].split() == [f"{MIRROR}/a", "x=y"]
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example")
    assert requirements.pip_settings()["index-url"] == "https://env.example"


def test_secrets_are_what_the_machine_has_and_name_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*requirements.PASSED_ON, *requirements.CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(requirements, "pip_settings", dict)
    assert requirements.write_secrets(tmp_path) == []
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setattr(requirements, "pip_settings", lambda: {"index-url": f"{MIRROR}?a=$b"})
    settings = tmp_path / "package_index"
    assert requirements.write_secrets(tmp_path) == [
        f"id=ca_bundle,src={bundle}", f"id=package_index,src={settings}",
    ]  # fmt: skip
    assert f"export SSL_CERT_FILE={requirements.CA_BUNDLE}\n" in settings.read_text()
    assert f"export PIP_INDEX_URL='{MIRROR}?a=$b'\n" in settings.read_text()
    assert str(tmp_path) not in settings.read_text()

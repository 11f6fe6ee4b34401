"""The build finds packages where this machine does, and nothing of that is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from image import requirements as package_index
from image.requirements import CA_BUNDLE, pip_settings, settings_of, write_secrets

MIRROR = "https://mirror.example/simple"


def test_pips_index_is_uvs_too() -> None:
    assert settings_of({}, {"index-url": MIRROR}) == {
        "PIP_INDEX_URL": MIRROR,
        "UV_DEFAULT_INDEX": MIRROR,
    }


def test_uvs_own_setting_wins() -> None:
    settings = settings_of({"UV_DEFAULT_INDEX": "https://uv.example"}, {"index-url": MIRROR})
    assert settings["UV_DEFAULT_INDEX"] == "https://uv.example"
    assert settings["PIP_INDEX_URL"] == MIRROR


def test_folders_of_this_machine_are_left_out() -> None:
    pip = {"extra-index-url": f"file:///srv/simple {MIRROR}", "find-links": "/srv/wheels"}
    assert settings_of({}, pip) == {"PIP_EXTRA_INDEX_URL": MIRROR, "UV_INDEX": MIRROR}


def test_a_machine_without_settings_has_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_index, "pip_settings", dict)
    for name in (*package_index.PASSED_ON, *package_index.CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    assert write_secrets(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_certificates_come_along_and_are_named_where_the_build_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("-----BEGIN CERTIFICATE-----")
    monkeypatch.setattr(package_index, "pip_settings", lambda: {"index-url": f"{MIRROR}?a=b c"})
    for name in (*package_index.PASSED_ON, *package_index.CERTIFICATES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    secrets = write_secrets(tmp_path)
    assert secrets == [
        f"id=ca_bundle,src={bundle}",
        f"id=package_index,src={tmp_path / 'package_index'}",
    ]
    written = (tmp_path / "package_index").read_text()
    assert f"export SSL_CERT_FILE={CA_BUNDLE}\n" in written
    assert f"export PIP_INDEX_URL='{MIRROR}?a=b c'\n".replace("?a=b c", "?a=b") in written
    assert str(tmp_path) not in written


def test_pips_files_are_read_in_its_order_and_the_environment_wins(tmp_path: Path) -> None:
    system, user = tmp_path / "system.conf", tmp_path / "user.conf"
    system.write_text(f"[global]\nindex-url = {MIRROR}\ntimeout = 9%\n")
    user.write_text("[global]\nindex-url = https://user.example\n")
    files = (system, tmp_path / "missing.conf", user)
    assert pip_settings({}, files)["index-url"] == "https://user.example"
    assert pip_settings({"PIP_CONFIG_FILE": str(system)}, files)["index-url"] == MIRROR
    assert pip_settings({"PIP_INDEX_URL": "https://env.example"}, files) == {
        "index-url": "https://env.example",
        "timeout": "9%",
    }
    assert pip_settings({}, ()) == {}

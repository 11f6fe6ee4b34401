"""Where this machine gets packages from, as secrets of a build: they are in no layer.

Takes pip's and uv's settings, from the environment and from pip's own files, and the certificates
that this machine trusts; returns `--secret` arguments. A setting that names a folder of this
machine says nothing inside the build and is left out.
"""

from __future__ import annotations

import configparser
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CA_BUNDLE = "/run/secrets/ca_bundle"
UV_NAMES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}
# Of pip's documentation, in its order: the system's, then the user's.
PIP_FILES = (
    Path("/etc/xdg/pip/pip.conf"),
    Path("/etc/pip.conf"),
    Path("~/.pip/pip.conf").expanduser(),
    Path("~/.config/pip/pip.conf").expanduser(),
)
PASSED_ON = (
    "HF_ENDPOINT",
    "NLTK_DATA_URL",
    "TORCHAUDIO_MODELS_URL",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
)


def write_secrets(folder: Path) -> list[str]:
    """Write what the build may see into a folder; return the arguments that hand it over."""
    settings = settings_of(os.environ, pip_settings())
    secrets = []
    bundle = next((os.environ[name] for name in CERTIFICATES if os.environ.get(name)), None)
    if bundle is not None and Path(bundle).is_file():
        settings |= dict.fromkeys(CERTIFICATES, CA_BUNDLE)
        secrets.append(f"id=ca_bundle,src={bundle}")
    if settings:
        file = folder / "package_index"
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
        file.write_text("".join(lines), encoding="utf-8")
        secrets.append(f"id=package_index,src={file}")
    return secrets


def settings_of(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a build needs to find packages where this machine does.

    Args:
        environ: This process's variables.
        pip: pip's settings by their long names, such as `index-url`.
    """
    settings = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    for option, uv_name in UV_NAMES.items():
        urls = [url for url in pip.get(option, "").split() if url.startswith("http")]
        if urls:
            settings["PIP_" + option.upper().replace("-", "_")] = " ".join(urls)
            settings.setdefault(uv_name, " ".join(urls))
    return settings


def pip_settings(
    environ: Mapping[str, str] = os.environ, files: Sequence[Path] = PIP_FILES
) -> dict[str, str]:
    """Return pip's settings: later files win, the environment last, as pip has it.

    Args:
        environ: Of it, `PIP_…`, and `PIP_CONFIG_FILE` for one more file.
        files: What pip reads, where it is there.
    """
    parser = configparser.RawConfigParser()
    parser.read([*files, environ.get("PIP_CONFIG_FILE", os.devnull)], encoding="utf-8")
    settings = dict(parser["global"]) if parser.has_section("global") else {}
    for name, value in environ.items():
        if name.startswith("PIP_"):
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings

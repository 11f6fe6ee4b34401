"""What the image installs, out of what is pinned already: no version or hash is written here.

``python -m image.requirements`` takes ``requirements/worker.txt`` without the wheels of
``left_out.toml`` into ``requirements/image.txt``, and the distributions that hold the demo
models out of ``requirements/demo.txt`` into ``requirements/image-demo.txt``.

Raises `LeftOutError` for a name in ``left_out.toml`` that is no longer pinned.

Where this machine gets packages from, as secrets of a build: they are in no layer.

Takes pip's and uv's settings, from the environment and from pip's own files, and the certificates
that this machine trusts; returns `--secret` arguments. A setting that names a folder of this
machine says nothing inside the build and is left out.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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


ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = Path(__file__).with_name("left_out.toml")
PINS = ROOT / "requirements"
MODELS_TOML = ROOT / "builder" / "models.toml"


class LeftOutError(ValueError):
    """`left_out.toml` names what is not there to be left out."""


@dataclass(frozen=True)
class LeftOut:
    """Some distributions, and why the worker does not need them."""

    names: tuple[str, ...]
    why: str


def read_left_out(path: Path = LEFT_OUT) -> tuple[LeftOut, ...]:
    """Return what is left out, in the file's order."""
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["left_out"]
    return tuple(LeftOut(tuple(entry["names"]), entry["why"]) for entry in entries)


def split_pins(text: str) -> dict[str, str]:
    """Return each pin's lines, hashes and origin included, by the distribution's name."""
    parts = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return {re.split(r"[=\[ ]", part)[0]: part for part in parts if "==" in part}


def without(text: str, names: Collection[str]) -> str:
    """Return pins without these distributions.

    Raises:
        LeftOutError: One of them is not pinned.
    """
    pins = split_pins(text)
    unknown = sorted(set(names) - set(pins))
    if unknown:
        raise LeftOutError(
            f"{', '.join(unknown)} is not in worker.txt: take it out of image/{LEFT_OUT.name}"
        )
    return "".join(lines for name, lines in pins.items() if name not in names)


def image_pins() -> str:
    """Return what ``requirements/image.txt`` is to be."""
    names = [name for entry in read_left_out() for name in entry.names]
    return without((PINS / "worker.txt").read_text(encoding="utf-8"), names)


def demo_pins() -> str:
    """Return the pins of the distributions that hold the demo models and nothing else.

    Not those of the multilingual model: the demo image speaks English.
    """
    models = tomllib.loads(MODELS_TOML.read_text(encoding="utf-8"))["demo"]["models"]
    wanted = {
        file["package"]
        for model in models
        if not model.get("multilingual")
        for file in model["files"]
    }
    kept = split_pins(image_pins())
    pins = split_pins((PINS / "demo.txt").read_text(encoding="utf-8"))
    return "".join(pins[name] for name in pins if name in wanted and name not in kept)


def main() -> int:
    """Write both files."""
    (PINS / "image.txt").write_text(image_pins(), encoding="utf-8")
    (PINS / "image-demo.txt").write_text(demo_pins(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

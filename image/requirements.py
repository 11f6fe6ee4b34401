"""What the image installs, out of what is pinned already: no version or hash is written here.

``python -m image.requirements`` takes ``requirements/worker.txt`` without the wheels of
``left_out.toml`` into ``requirements/image.txt``, and the distributions that hold the demo
models out of ``requirements/demo.txt`` into ``requirements/image-demo.txt``.

Raises `LeftOutError` for a name in ``left_out.toml`` that is no longer pinned.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

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

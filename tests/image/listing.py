"""List the layers of an image in buildah's storage, and account for its bytes.

An image must hold the files that its wheels' own records name, the models that ``profile.json``
names, our code and the base; what it has beyond these is its excess.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image.engine import run

FOLDERS = {"overlay": "overlay/{id}/diff", "vfs": "vfs/dir/{id}"}  # by buildah's storage driver
GROUPS = {"torch": ("torch-", "torchaudio-"), "CUDA libraries": ("nvidia_",), "other wheels": ("",)}
# What buildah and the Dockerfile put before each step.
PREFIXES = re.compile(r"/bin/sh -c |#\(nop\) |--mount=\S+ |if \[ -f \S+ \]; then \. \S+; fi && ")


@dataclass(frozen=True)
class Layer:
    """The digest and size of its uncompressed tar, its files' folder, its Dockerfile step."""

    digest: str
    size_bytes: int
    folder: Path
    made_by: str


@dataclass(frozen=True)
class Contents:
    """What an image holds, in bytes.

    Attributes:
        needed: By reason.
        total: Of all layers.
        bytecode: Python's compiled files of the wheels, a part of the excess.
    """

    needed: dict[str, int]
    total: int
    bytecode: int

    @property
    def excess(self) -> float:
        """What is there beyond what is needed, as a fraction of the latter."""
        needed = sum(self.needed.values())
        return (self.total - needed) / needed


def configuration(image: str) -> dict[str, Any]:
    """Return an image's configuration, with its history."""
    found: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", image))
    docker: dict[str, Any] = found["Docker"]
    return docker


def list_layers(image: str) -> list[Layer]:
    """Return an image's layers, the base's first."""
    found = configuration(image)
    steps = [step.get("created_by", "") for step in found["history"] if not step.get("empty_layer")]
    store = json.loads(run("buildah", "info"))["store"]
    storage, driver = Path(store["GraphRoot"]), store["GraphDriverName"]
    listed = (storage / f"{driver}-layers" / "layers.json").read_text(encoding="utf-8")
    by_digest = {layer.get("diff-digest"): layer for layer in json.loads(listed)}
    layers = []
    for number, digest in enumerate(found["rootfs"]["diff_ids"]):
        layer = by_digest[digest]
        folder = storage / FOLDERS[driver].format(id=layer["id"])
        made_by = steps[number] if number < len(steps) else ""
        layers.append(Layer(digest, layer["diff-size"], folder, made_by))
    return layers


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """Mount an image's files in a container that is removed afterwards."""
    container = run("buildah", "from", "--pull-never", image).strip()
    try:
        yield Path(run("buildah", "mount", container).strip())
    finally:
        run("buildah", "rm", container)


def account(root: Path, layers: list[Layer]) -> Contents:
    """Add up what an image must hold; the first of its layers is the base."""
    packages = next((root / "opt/venv/lib").glob("python3*/site-packages"))
    needed = {"base": layers[0].size_bytes} | dict.fromkeys(GROUPS, 0)
    for name, size_bytes in _wheel_sizes(packages).items():
        group = next(group for group, starts in GROUPS.items() if name.startswith(starts))
        needed[group] += size_bytes
    profile = json.loads((root / "models/profile.json").read_text(encoding="utf-8"))
    needed["models"] = sum(entry["bytes"] for entry in profile["files"].values())
    code = [path for path in (root / "app").rglob("*") if path.is_file()]
    needed["code"] = sum(path.stat().st_size for path in code if path.suffix != ".pyc")
    bytecode = sum(path.stat().st_size for path in packages.rglob("*.pyc"))
    return Contents(needed, sum(layer.size_bytes for layer in layers), bytecode)


def _wheel_sizes(packages: Path) -> Mapping[str, int]:
    """Return the bytes of each installed wheel, by the name of its metadata folder."""
    sizes = {}
    for record in packages.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as rows:
            files = [packages / row[0] for row in csv.reader(rows) if row]
        sizes[record.parent.name] = sum(
            file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc"
        )
    return sizes


def describe_layers(layers: list[Layer]) -> str:
    """Return the layers as a table, the last first, as `docker history` has them."""
    rows = [f"| {_megabytes(x.size_bytes)} | `{_shortened(x.made_by)}` |" for x in layers[::-1]]
    return "\n".join(["| size | made by |", "|---:|---|", *rows])


def describe_contents(contents: Contents) -> str:
    """Return what is needed, what is there, and the excess."""
    rows = {name: _megabytes(size) for name, size in contents.needed.items()}
    rows["together"] = _megabytes(sum(contents.needed.values()))
    rows["the image"] = _megabytes(contents.total)
    rows[f"excess, of it bytecode {_megabytes(contents.bytecode)}"] = f"{contents.excess:.1%}"
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| what it must hold | |", "|---|---:|", *lines])


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _shortened(step: str, limit: int = 110) -> str:
    text = PREFIXES.sub("", " ".join(step.split()))
    text = re.sub(r"(:[0-9a-f]{12})[0-9a-f]{52}", r"\1", text)
    text = text.replace("|", "\\|").replace("`", "'")
    return text if len(text) <= limit else text[: limit - 1] + "…"

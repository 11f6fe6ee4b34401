"""What is in the image: its layers as `docker history` shows them, and each byte's reason.

Takes an image in buildah's storage; returns values and Markdown. The bytes that an image must
hold are the files that its wheels' own records name, the models that ``profile.json`` names, our
code and the base; what it has beyond is its excess.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from image.engine import run

FOLDERS = {"overlay": "overlay/{id}/diff", "vfs": "vfs/dir/{id}"}  # by buildah's storage driver
CODE = ("app",)
GROUPS = {"torch": ("torch-", "torchaudio-"), "CUDA libraries": ("nvidia_",)}
OTHER_WHEELS = "other wheels"
INDEX_SETTINGS = re.compile(r"if \[ -f \S+ \]; then \. \S+; fi && ")


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        digest: Of its uncompressed tar.
        size_bytes: Of that tar.
        folder: Where buildah keeps its files.
        made_by: The Dockerfile's step.
    """

    digest: str
    size_bytes: int
    folder: Path
    made_by: str


@dataclass(frozen=True)
class Ledger:
    """What an image holds, in bytes.

    Attributes:
        must_hold: By reason.
        total: Of all layers.
        bytecode: Python's compiled files of the wheels, a part of the excess.
    """

    must_hold: dict[str, int]
    total: int
    bytecode: int

    @property
    def excess(self) -> float:
        """What is there beyond what must be, as a part of the latter."""
        wanted = sum(self.must_hold.values())
        return (self.total - wanted) / wanted


def configuration(image: str) -> dict[str, Any]:
    """Return an image's configuration, with its history."""
    told: dict[str, Any] = json.loads(run("buildah", "inspect", "--type", "image", image))
    found: dict[str, Any] = told["Docker"]
    return found


def list_layers(image: str) -> list[Layer]:
    """Return an image's layers, the base's first."""
    told = configuration(image)
    steps = [
        step.get("created_by", "") for step in told["history"] if not step.get("empty_layer", False)
    ]
    store = json.loads(run("buildah", "info"))["store"]
    storage, driver = Path(store["GraphRoot"]), store["GraphDriverName"]
    listed = storage / f"{driver}-layers" / "layers.json"
    kept = json.loads(listed.read_text(encoding="utf-8"))
    by_digest = {layer.get("diff-digest"): layer for layer in kept}
    layers = []
    for number, digest in enumerate(told["rootfs"]["diff_ids"]):
        layer = by_digest[digest]
        folder = storage / FOLDERS[driver].format(id=layer["id"])
        made_by = steps[number] if number < len(steps) else ""
        layers.append(Layer(digest, layer["diff-size"], folder, made_by))
    return layers


@contextmanager
def mounted(image: str) -> Iterator[Path]:
    """Show an image's files, in a container of their own that goes again."""
    container = run("buildah", "from", "--pull-never", image).strip()
    try:
        yield Path(run("buildah", "mount", container).strip())
    finally:
        run("buildah", "rm", container)


def make_ledger(root: Path, layers: list[Layer], base_layers: int = 1) -> Ledger:
    """Add up what an image must hold.

    Args:
        root: Its files.
        layers: Its layers.
        base_layers: How many of them are the base's.
    """
    packages = next((root / "opt/venv/lib").glob("python3*/site-packages"))
    must_hold = {"base": sum(layer.size_bytes for layer in layers[:base_layers])}
    must_hold |= _by_group(packages)
    profile = json.loads((root / "models/profile.json").read_text(encoding="utf-8"))
    must_hold["models"] = sum(entry["bytes"] for entry in profile["files"].values())
    must_hold["code"] = sum(
        path.stat().st_size
        for folder in CODE
        for path in (root / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    )
    bytecode = sum(path.stat().st_size for path in packages.rglob("*.pyc"))
    return Ledger(must_hold, sum(layer.size_bytes for layer in layers), bytecode)


def wheel_sizes(packages: Path) -> dict[str, int]:
    """Return the bytes of each installed wheel, by the name of its metadata folder."""
    sizes = {}
    for record in packages.glob("*.dist-info/RECORD"):
        with record.open(encoding="utf-8", newline="") as rows:
            files = [packages / row[0] for row in csv.reader(rows) if row]
        sizes[record.parent.name.removesuffix(".dist-info")] = sum(
            file.stat().st_size for file in files if file.is_file() and file.suffix != ".pyc"
        )
    return sizes


def _by_group(packages: Path) -> dict[str, int]:
    sums = dict.fromkeys([*GROUPS, OTHER_WHEELS], 0)
    for name, size_bytes in wheel_sizes(packages).items():
        group = next((g for g, starts in GROUPS.items() if name.startswith(starts)), OTHER_WHEELS)
        sums[group] += size_bytes
    return sums


def describe_layers(layers: list[Layer]) -> str:
    """Return the layers as a table, the last first, as `docker history` has them."""
    lines = ["| size | made by |", "|---:|---|"]
    for layer in reversed(layers):
        lines.append(f"| {_megabytes(layer.size_bytes)} | `{_shortened(layer.made_by)}` |")
    return "\n".join(lines)


def describe_ledger(ledger: Ledger) -> str:
    """Return what must be there, what is there, and the excess."""
    lines = ["| what it must hold | |", "|---|---:|"]
    lines += [f"| {name} | {_megabytes(size)} |" for name, size in ledger.must_hold.items()]
    lines += [
        f"| together | {_megabytes(sum(ledger.must_hold.values()))} |",
        f"| the image | {_megabytes(ledger.total)} |",
        f"| excess, of it bytecode {_megabytes(ledger.bytecode)} | {ledger.excess:.1%} |",
    ]
    return "\n".join(lines)


def report(image: str) -> str:
    """Return both tables."""
    layers = list_layers(image)
    with mounted(image) as root:
        ledger = make_ledger(root, layers)
    return f"{describe_layers(layers)}\n\n{describe_ledger(ledger)}"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB"


def _shortened(step: str, limit: int = 110) -> str:
    words = [word for word in step.split() if not word.startswith("--mount=")]
    text = " ".join(words).replace("/bin/sh -c ", "").replace("#(nop) ", "")
    text = INDEX_SETTINGS.sub("", text)
    text = re.sub(r"(:[0-9a-f]{12})[0-9a-f]{52}", r"\1", text)
    text = text.replace("|", "\\|").replace("`", "'")
    return text if len(text) <= limit else text[: limit - 1] + "…"

"""Write what was measured of an image into docs/image.md, between its markers.

``python -m image.document IMAGE [--no-start]`` measures the layers, the size, what is left out
(sizes as installed beside this Python) and, unless told otherwise, how it starts.
"""

from __future__ import annotations

import argparse
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path

from image.engine import ImageError
from image.listing import (
    describe_layers,
    describe_ledger,
    list_layers,
    make_ledger,
    mounted,
    wheel_sizes,
)
from image.requirements import ROOT, LeftOut, read_left_out
from image.start_times import measure_image

END = "<!-- end -->"
DOCUMENT = ROOT / "docs" / "image.md"


def fill_in(text: str, parts: Mapping[str, str]) -> str:
    """Return a document with each part between its markers.

    Raises:
        ImageError: A part has no markers.
    """
    for name, part in parts.items():
        opening = f"<!-- generated: {name} -->\n"
        before, found, after = text.partition(opening)
        _, end, rest = after.partition(END)
        if not (found and end):
            raise ImageError(f"docs/image.md has no place for `{name}`: put its markers back")
        text = f"{before}{opening}{part}\n{END}{rest}"
    return text


def describe_left_out(entries: Sequence[LeftOut], sizes: Mapping[str, int]) -> str:
    """Return what is left out as a table, the largest first.

    Args:
        entries: Names and reasons.
        sizes: Bytes by distribution.
    """
    rows = [(sum(sizes.get(name, 0) for name in e.names), e) for e in entries]
    rows.sort(key=lambda row: -row[0])
    lines = ["| MB | wheels | why |", "|---:|---|---|"]
    for size_bytes, entry in rows:
        lines.append(f"| {size_bytes / 1e6:.1f} | {', '.join(entry.names)} | {entry.why} |")
    total = sum(size_bytes for size_bytes, _ in rows)
    return "\n".join([*lines, f"| **{total / 1e6:.1f}** | together | |"])


def installed_sizes() -> dict[str, int]:
    """Return the bytes of each wheel that is installed beside this Python, by its plain name."""
    sizes = wheel_sizes(Path(sysconfig.get_path("purelib")))
    return {
        re.sub(r"[-_.]+", "-", name.rpartition("-")[0]).lower(): size
        for name, size in sizes.items()
    }


def measure_parts(image: str, *, start: bool, runs: int) -> dict[str, str]:
    """Measure an image; return the document's parts by name."""
    layers = list_layers(image)
    with mounted(image) as root:
        ledger = make_ledger(root, layers)
    parts = {
        "layers": describe_layers(layers),
        "size": describe_ledger(ledger),
        "left out": describe_left_out(read_left_out(), installed_sizes()),
    }
    return parts | ({"start": measure_image(image, runs)} if start else {})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m image.document")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--no-start", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    try:
        parts = measure_parts(options.image, start=not options.no_start, runs=options.runs)
        DOCUMENT.write_text(fill_in(DOCUMENT.read_text(encoding="utf-8"), parts), encoding="utf-8")
    except ImageError as exc:
        print(f"image: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

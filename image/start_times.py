"""Measure how long the image's worker takes to each step of its start, cold and warm.

``python -m image.start_times IMAGE`` runs the worker on its own test input as `image.start` does:
no network, read-only, unprivileged. Before each cold start the page cache drops the image's files.
It prints medians as a table for docs/image.md. Raises `ImageError` where a worker gives no result.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from image.engine import ImageError, exit_code
from image.listing import configuration, mounted
from image.requirements import ROOT

STEPS = {
    "the SDK is imported": re.compile(r"Starting Serverless Worker"),
    "Whisper is loaded": re.compile(r"loaded Whisper"),
    "the speech detector is loaded": re.compile(r"loaded speech detector"),
    "speakers can be told apart: ready": re.compile(r"loaded diarization"),
    "first result, 7.5 s of audio": re.compile(r"Job result:"),
    "exit": re.compile(r"^$"),
}


def time_start(config_file: Path, root: Path) -> dict[str, float]:
    """Run the worker on its test input; return the seconds from its start to each step."""
    command = [sys.executable, "-m", "image.start", str(config_file), str(root)]
    environ = {"PATH": os.environ["PATH"]}
    began = time.monotonic()
    seconds: dict[str, float] = {}
    lines = []
    with subprocess.Popen(
        [*command, "python", "-u", "handler.py"],
        cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        for line in process.stdout or ():
            lines.append(line)
            for step, pattern in STEPS.items():
                if pattern.search(line):
                    seconds.setdefault(step, time.monotonic() - began)
    seconds["exit"] = time.monotonic() - began
    if process.returncode or len(seconds) < len(STEPS):
        raise ImageError("the worker gave no result:\n" + "".join(lines[-12:]))
    return seconds


def drop_from_cache(root: Path) -> None:
    """Have the page cache drop all files below a folder."""
    os.sync()  # only pages that are on the disk can be dropped
    for folder, _, names in os.walk(root):
        for path in (Path(folder, name) for name in names):
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(image: str, runs: int) -> str:
    """Start an image's worker so often, cold and then warm; return the table of medians."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder, mounted(image) as root:
        config_file = Path(folder, "config.json")
        config_file.write_text(json.dumps(configuration(image)["config"]), encoding="utf-8")
        cold, warm = [], []
        for _ in range(runs):
            drop_from_cache(root)
            cold.append(time_start(config_file, root))
            warm.append(time_start(config_file, root))
    lines = ["| the worker, seconds after its start | cold | warm |", "|---|---:|---:|"]
    for step in STEPS:
        medians = [median(run[step] for run in measured) for measured in (cold, warm)]
        lines.append(f"| {step} | {medians[0]:.1f} | {medians[1]:.1f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m image.start_times")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    print(measure(options.image, options.runs))


if __name__ == "__main__":
    sys.exit(exit_code(main))

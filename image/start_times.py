"""How long the image takes to start: to ready and to the first result, cold and warm, by cause.

``python -m image.start_times IMAGE`` starts the image's worker on its own test input, with no
network, read-only and unprivileged as `image.start` does; before each cold start the page cache
is told to forget the image's files (``posix_fadvise``). Then the causes: imports and models one
after another in one process (`bench.speed.cold_process`, which is lent to the image). It prints a
table for docs/image.md.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from image.engine import ImageError
from image.listing import configuration, mounted
from image.requirements import ROOT

MOMENTS = {
    "the SDK is imported": re.compile(r"Starting Serverless Worker"),
    "Whisper is loaded": re.compile(r"loaded Whisper"),
    "the speech detector is loaded": re.compile(r"loaded speech detector"),
    "speakers can be told apart: ready": re.compile(r"loaded diarization"),
    "first result, 7.5 s of audio": re.compile(r"Job result:"),
    "exit": re.compile(r"^$"),
}
LENT = ("bench/__init__.py", "bench/speed/__init__.py", "bench/speed/cold_process.py")


@dataclass(frozen=True)
class Container:
    """The image laid out to be started.

    Attributes:
        root: Its files.
        config_file: Its configuration, as `image.start` takes it.
        lent: A folder that is shown at /mnt.
    """

    root: Path
    config_file: Path
    lent: Path

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in it."""
        starter = [sys.executable, "-m", "image.start", "--bind", str(self.lent)]
        return subprocess.Popen(
            [*starter, str(self.config_file), str(self.root), *command],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def time_worker(container: Container) -> dict[str, float]:
    """Run the worker on its test input; return the seconds from its start to each moment."""
    began = time.monotonic()
    seconds: dict[str, float] = {}
    lines = []
    with container.start("python", "-u", "handler.py") as process:
        assert process.stdout is not None  # noqa: S101 -- as asked for above
        for line in process.stdout:
            lines.append(line)
            for moment, pattern in MOMENTS.items():
                if pattern.search(line):
                    seconds.setdefault(moment, time.monotonic() - began)
    seconds["exit"] = time.monotonic() - began
    if process.returncode or len(seconds) < len(MOMENTS):
        raise ImageError("the worker gave no result:\n" + "".join(lines[-12:]))
    return {moment: seconds[moment] for moment in MOMENTS}


def time_causes(container: Container) -> dict[str, float]:
    """Import and load one thing after another; return the seconds that each takes."""
    command = ["env", "PYTHONPATH=/mnt:/app", "python", "-m", "bench.speed.cold_process"]
    with container.start(*command, "/models", str(time.time())) as process:
        told, _ = process.communicate()
    if process.returncode:
        raise ImageError("the causes could not be timed:\n" + told[-2000:])
    seconds: dict[str, float] = json.loads(told.splitlines()[-1])
    return seconds


def forget(root: Path) -> int:
    """Have the page cache forget all files below; return how many bytes they have."""
    os.sync()  # what is not on the disk yet cannot be forgotten
    total = 0
    for path in _files(root):
        with path.open("rb") as file:
            total += os.fstat(file.fileno()).st_size
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return total


def _files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink():
                yield path


def measure(container: Container, runs: int) -> str:
    """Return the table: medians, cold and warm."""
    tables = []
    timers: tuple[Callable[[Container], Mapping[str, float]], ...] = (time_worker, time_causes)
    for timer in timers:
        cold, warm = [], []
        for _ in range(runs):
            forget(container.root)
            cold.append(timer(container))
            warm.append(timer(container))
        tables.append([(name, _median(cold, name), _median(warm, name)) for name in cold[0]])
    return _tables(*tables)


def _median(runs: Sequence[Mapping[str, float]], name: str) -> float:
    values = sorted(run[name] for run in runs)
    return values[len(values) // 2]


def _tables(moments: list[tuple[str, float, float]], causes: list[tuple[str, float, float]]) -> str:
    lines = ["| the worker, seconds after its start | cold | warm |", "|---|---:|---:|"]
    lines += [f"| {name} | {cold:.1f} | {warm:.1f} |" for name, cold, warm in moments]
    lines += ["", "| one after another, seconds each | cold | warm |", "|---|---:|---:|"]
    lines += [f"| {name} | {cold:.1f} | {warm:.1f} |" for name, cold, warm in causes]
    sums = [sum(row[column] for row in causes) for column in (1, 2)]  # type: ignore[misc]
    return "\n".join([*lines, f"| together | {sums[0]:.1f} | {sums[1]:.1f} |"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m image.start_times")
    parser.add_argument("image", metavar="IMAGE")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args(arguments)
    print(measure_image(options.image, options.runs))
    return 0


def measure_image(image: str, runs: int) -> str:
    """Lay an image out, and return the tables."""
    with tempfile.TemporaryDirectory(prefix="image-") as folder, mounted(image) as root:
        config_file, lent = Path(folder, "config.json"), Path(folder, "lent")
        config_file.write_text(json.dumps(configuration(image)["config"]))
        for name in LENT:
            (lent / name).parent.mkdir(parents=True, exist_ok=True)
            (lent / name).write_bytes((ROOT / name).read_bytes())
        return measure(Container(root, config_file, lent), runs)


if __name__ == "__main__":
    sys.exit(main())

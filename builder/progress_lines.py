"""What a build log shows of downloads: a line a file, and one every few seconds between."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

EVERY_S = 10.0


@dataclass
class ProgressLines:
    """Counts bytes from several threads and writes lines.

    Args:
        write: Takes a line.
        clock: Seconds that never go back.
    """

    write: Callable[[str], object]
    clock: Callable[[], float] = time.monotonic
    _total: int = 0
    _done: int = 0
    _fetched: int = 0
    _started_s: float = 0.0
    _shown_s: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def start(self, total_bytes: int, present: int) -> None:
        """Say what is to be done.

        Args:
            total_bytes: Of the files to fetch, as far as known.
            present: How many files need not be fetched.
        """
        self._total = total_bytes
        self._started_s = self._shown_s = self.clock()
        there = f"; {present} files are there already" if present else ""
        self.write(f"{human(total_bytes)} to fetch{there}")

    def add(self, count: int) -> None:
        """Count bytes; below zero: they were dropped."""
        with self._lock:
            self._done += count
            self._fetched += max(count, 0)
            now_s = self.clock()
            if now_s - self._shown_s >= EVERY_S:
                self._shown_s = now_s
                self.write(self._line(now_s))

    def finished(self, name: str, size_bytes: int) -> None:
        """Name a file that is there and checked."""
        with self._lock:
            self.write(f"  {name} ({human(size_bytes)})")

    def _line(self, now_s: float) -> str:
        share = f"{min(100 * self._done // self._total, 100)} %, " if self._total else ""
        speed = self._fetched / max(now_s - self._started_s, 1e-9)
        return f"  … {share}{human(self._done)} of {human(self._total)}, {human(int(speed))}/s"


def human(count: int) -> str:
    """Write a number of bytes as people read it: 999 B, 1.5 MB, 3.1 GB."""
    value, unit = float(count), "B"
    for larger in ("kB", "MB", "GB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"

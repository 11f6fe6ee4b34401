"""A build log that says how far it is, and no more often than it helps."""

import pytest

from builder.download import ProgressLines, human


def test_a_line_every_ten_seconds() -> None:
    """By a clock wound by hand."""
    lines: list[str] = []
    now = [0.0]
    progress = ProgressLines(lines.append, lambda: now[0])
    progress.start(2_000_000_000, present=3)
    for _ in range(40):
        now[0] += 0.5
        progress.add(25_000_000)
    assert lines[0] == "2.0 GB to fetch; 3 files are there already"
    assert lines[1:] == [
        "  … 25 %, 500.0 MB of 2.0 GB, 50.0 MB/s",
        "  … 50 %, 1.0 GB of 2.0 GB, 50.0 MB/s",
    ]


def test_bytes_that_were_dropped_are_not_done() -> None:
    """A server without ranges begins anew."""
    lines: list[str] = []
    now = [0.0]
    progress = ProgressLines(lines.append, lambda: now[0])
    progress.start(1000, present=0)
    progress.add(900)
    progress.add(-900)
    now[0] = 10
    progress.add(100)
    assert lines[-1] == "  … 10 %, 100 B of 1.0 kB, 100 B/s"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (3_087_284_237, "3.1 GB")]
)
def test_sizes_read_as_people_write_them(count: int, text: str) -> None:
    """Decimal units, as disks and hubs give them."""
    assert human(count) == text

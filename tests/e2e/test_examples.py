"""What README and docs show is what the commands print today."""

import re
from pathlib import Path

from tests.e2e.conftest import Bench
from tools.docs import EXAMPLES, record

VARIES = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}(-u\d+)?|[0-9a-f]{32,}|\d[\d.,:TZ-]*|\d+%")
SAID = re.compile(r"(?<=SPEAKER_#) .+")
PROGRESS = re.compile(
    r"[a-z]+( # %(, about .*)?)?|(# )?.*# (waiting|queued|running|done),.*|requests: .*"
)


def shape(text: str) -> set[str]:
    """Return the lines without ids, numbers, times, what is said, and those of progress.

    Processors round differently, and a small model hears other words then.
    """
    lines = (VARIES.sub("#", " ".join(line.split())) for line in text.splitlines())
    return {SAID.sub("", line) for line in lines if not PROGRESS.fullmatch(line)}


def test_the_pages_show_what_the_commands_print(bench: Bench) -> None:
    printed = record(bench.stack)
    assert {path.stem for path in Path(EXAMPLES).glob("*.txt")} == set(printed)
    for name, text in printed.items():
        shown = (EXAMPLES / f"{name}.txt").read_text(encoding="utf-8")
        assert shape(text) == shape(shown), f"{name}: run `make docs`"

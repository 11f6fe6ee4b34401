"""How far a job is, shown on stderr: a live line on a terminal, plain lines when not.

stdout is for results alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from edge_client.follow import Glimpse, View

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STEP_PERCENT = 10


class QuietView:
    """Shows no progress; notes go to stderr. For ``--json``."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def show(self, glimpse: Glimpse) -> None:
        """Show nothing."""

    def note(self, message: str) -> None:
        """Print one line."""
        print(message, file=self._stream, flush=True)  # noqa: T201 - a view prints


class PlainView(QuietView):
    """A line whenever the state, the stage or the next ten percent changes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._last: object = None

    def show(self, glimpse: Glimpse) -> None:
        """Print a line if there is news."""
        step = None if glimpse.percent is None else int(glimpse.percent // STEP_PERCENT)
        key = (glimpse.state, glimpse.stage, step)
        if key != self._last:
            self._last = key
            self.note(words(glimpse))


class LiveView:
    """One line that stays in place: spinner, stage, bar, percent, time gone and left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("submitted", total=None, left="")

    def show(self, glimpse: Glimpse) -> None:
        """Update the line. Without a percentage the bar only pulses."""
        self._progress.update(
            self._task,
            description=glimpse.stage or glimpse.state,
            total=None if glimpse.percent is None else 100,
            completed=glimpse.percent or 0,
            left="" if glimpse.left_s is None else remaining(glimpse.left_s),
        )

    def note(self, message: str) -> None:
        """Print one line above the live one."""
        self._progress.console.print(message, markup=False, highlight=False)


def words(glimpse: Glimpse) -> str:
    """Return a state as a short plain line, such as ``transcribe 40 %``."""
    percent = "" if glimpse.percent is None else f" {glimpse.percent:.0f} %"
    left = "" if glimpse.left_s is None else f", {remaining(glimpse.left_s)}"
    return f"{glimpse.stage or glimpse.state}{percent}{left}"


def remaining(left_s: float) -> str:
    """Return an estimate as coarsely as it is known, such as ``about 12 min left``."""
    if left_s < 55:
        return f"about {max(5, 5 * round(left_s / 5))} s left"
    if left_s < 5400:
        return f"about {max(1, round(left_s / 60))} min left"
    return f"about {left_s / 3600:.1f} h left"


@contextmanager
def view_for(json: bool, stream: TextIO | None = None) -> Iterator[View]:
    """Choose a view, and take it away again.

    Args:
        json: The output is for a program.
        stream: stderr if None.
    """
    stream = stream or sys.stderr
    if json:
        yield QuietView(stream)
    elif stream.isatty():
        from rich.console import Console  # rich costs 0.1 s: only who has a terminal pays

        with live_progress(Console(file=stream)) as progress:
            yield LiveView(progress)
    else:
        yield PlainView(stream)


def live_progress(console: Console) -> Progress:
    """Make the live line; it disappears when it ends."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
    )

"""The live table of a batch, on a terminal."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_client.batch.counting_view import CountingView
from edge_client.batch.phrases import counts_line, ending_line, totals_line
from edge_client.batch.printable import clock_time, safe_line, visible
from edge_client.batch.report_file import ReportFile
from edge_client.batch.tally import Job
from edge_client.batch.values import Record
from edge_client.clock import Clock
from edge_client.verdict import Result
from edge_client.views import remaining

REFRESHES_PER_S = 4
WIDE, NARROW = 98, 64
"""Columns from which there is a bar, and from which there are state and times."""
_BAR_WIDTH = 16


class LiveView(CountingView):
    """A table of the jobs in flight, running ones first, above the counts.

    rich's thread draws it four times a second, and reads the tally without a lock.

    Args:
        console: A terminal.
        clock: For the times.
        price_per_s: Of a GPU second.
        report: Gets a line for each session that ends.
    """

    def __init__(
        self,
        console: Console,
        clock: Clock,
        price_per_s: Decimal | None = None,
        report: ReportFile | None = None,
    ) -> None:
        super().__init__(clock, price_per_s, report)
        self._console, self._encoding = console, console.encoding

    def live(self) -> Live:
        """Return what keeps the table in place while it is entered; it disappears at the end."""
        return Live(
            console=self._console,
            get_renderable=lambda: self,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def ended(self, record: Record) -> None:
        """Take a row away; what did not go well is said above the table."""
        is_news = record.result != Result.DONE.value and not self.tally.is_as_listed(record)
        super().ended(record)
        if is_news:
            self._say(ending_line(record, self._encoding))

    def note(self, message: str) -> None:
        """Print one line above the table."""
        self._say(safe_line(message, self._encoding, limit=800))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw all of it, never higher than the terminal."""
        footer = Text(f"{counts_line(self.tally)}\n{totals_line(self.tally)}")
        height = len(footer.wrap(console, options.max_width))
        rows = max(0, console.size.height - height - 3)
        yield self._table(rows, options)
        yield footer

    def _say(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)

    def _table(self, rows: int, options: ConsoleOptions) -> RenderableType:
        """Return the heading, and as many jobs as there is room for."""
        jobs = sorted(self.tally.jobs.copy().values(), key=lambda job: not job.is_running)
        if not rows or not jobs:
            return ""
        columns = _columns(options.max_width)
        table = _empty(columns, options.ascii_only)
        for job in islice(jobs, rows):
            cells = self._cells(job)
            table.add_row(*(cells[name] for name, _ in columns))
        more = f"and {len(jobs) - rows:,} more in flight" if len(jobs) > rows else ""
        return Group(table, more)

    def _cells(self, job: Job) -> dict[str, RenderableType]:
        glimpse, percent = job.glimpse, job.glimpse.percent
        age_s = (self._clock.now() - job.submitted_at).total_seconds()
        left = "" if job.ends_at_s is None else remaining(job.ends_at_s - self._clock.monotonic())
        words = {
            "session": f"{job.session.user}/{job.session.name}",
            "state": glimpse.state,
            "stage": glimpse.stage or "",
            "%": "" if percent is None else f"{percent:.0f}",
            "time": clock_time(age_s),
            "left": left,
        }
        cells: dict[str, RenderableType] = {"": ProgressBar(100, percent or 0, width=_BAR_WIDTH)}
        return cells | {name: Text(visible(word, self._encoding)) for name, word in words.items()}


def _empty(columns: list[tuple[str, int]], ascii_only: bool) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
    for name, least in columns:
        table.add_column(
            name,
            ratio=None if least else 1,
            width=least or None,
            no_wrap=True,
            overflow="crop" if ascii_only else "ellipsis",
            justify="right" if name in ("%", "time") else "left",
        )
    return table


def _columns(width: int) -> list[tuple[str, int]]:
    """Return names and widths; 0 takes what is left."""
    if width < NARROW:
        return [("session", 0), ("stage", 10), ("%", 3)]
    bar = [("", _BAR_WIDTH)] if width >= WIDE else []
    left = [("time", 8), ("left", 17)]
    return [("session", 0), ("state", 9), ("stage", 10), *bar, ("%", 3), *left]

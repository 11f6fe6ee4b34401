"""The live table of a batch, on a terminal.

What every view of a batch does: it counts, writes the report, and sums up.

The lines of counts and endings that the live table and the plain lines share. Pure.

A batch as lines: for logs, and for programs.

Chooses what a batch shows: a live table on a terminal, plain lines if not, JSON lines.

stdout is for results alone; everything else goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from itertools import islice
from typing import TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edge_client.batch.report import ReportFile, ReportLost, line_of
from edge_client.batch.results import Job, Summary, Tally, summary_of
from edge_client.batch.types import Item, Need, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress
from edge_client.jobs.retry_policy import Result
from edge_client.output import remaining
from edge_client.session import Session
from edge_client.text import audio_length, clock_time, safe_line, visible


class CountingView:
    """Counts, and shows nothing. A `BatchView`; the others are made of it.

    Args:
        clock: For spans and times of day.
        price_per_s: Of a GPU second.
        report: Gets a line for each session that ends.
    """

    def __init__(
        self,
        clock: Clock,
        price_per_s: Decimal | None = None,
        report: ReportFile | None = None,
    ) -> None:
        self.tally = Tally(clock)
        self._clock, self._price_per_s, self._report = clock, price_per_s, report
        self._report_lost = 0

    def listed(self, item: Item) -> None:
        """Count a session of the listing."""
        self.tally.listed(item)

    def listing_ended(self) -> None:
        """Know that the totals are final."""
        self.tally.listing = False

    def submitted(self, session: Session, claim: Claim) -> None:
        """Count a job that is out."""
        self.tally.submitted(session, claim)

    def show(self, session: Session, glimpse: JobProgress) -> None:
        """Take what a poll saw."""
        self.tally.show(session, glimpse)

    def ended(self, record: Record) -> None:
        """Count a session's end, and report it. A full disk does not end the batch."""
        self.tally.ended(record)
        if self._report is None:
            return
        try:
            self._report.add(record)
        except ReportLost as exc:
            self._report_lost += 1
            if self._report_lost == 1:
                self.note(f"{exc}; the batch goes on")

    def note(self, message: str) -> None:
        """Show nothing."""

    def summary(self, requests: Mapping[str, int] | None = None) -> Summary:
        """Sum up, once, at the end: what is still in flight counts as out.

        Args:
            requests: How many of each kind were made, such as ``{"LIST": 102}``.
        """
        return summary_of(
            self.tally, self._clock.monotonic(), self._price_per_s, requests, self._report_lost
        )


_ALWAYS = ("queued", "running", Result.DONE.value, Result.FAILED.value)


def counts_line(tally: Tally) -> str:
    """Return how many sessions are where, such as ``3 queued, 2 running, 40 done, 0 failed``."""
    running = sum(job.is_running for job in tally.jobs.copy().values())
    counts = {
        "waiting": len(tally.waiting),
        "queued": len(tally.jobs) - running,
        "running": running,
        Result.DONE.value: 0,
        Result.FAILED.value: 0,
        **tally.results.copy(),
        "already done": tally.needs[Need.DONE],
    }
    shown = {kind: count for kind, count in counts.items() if count or kind in _ALWAYS}
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in shown.items())


def totals_line(tally: Tally) -> str:
    """Return what there is in all, and how long it still takes."""
    listing = "so far, listing" if tally.listing else "in all"
    parts = [f"{tally.found:,} sessions {listing}", f"{audio_length(tally.audio_s)} done"]
    left_s = tally.left_s()
    if left_s is not None:
        parts.append(remaining(left_s) + (" for these" if tally.listing else ""))
    return ", ".join(parts)


def ending_line(record: Record, encoding: str = "utf-8") -> str:
    """Return how a session came out, as one line."""
    head = f"{visible(record.result)}: {visible(record.session, encoding)}: "
    if record.result != Result.DONE.value:
        code = f"{record.code}: " if record.code else ""
        return head + safe_line(code + record.message, encoding)
    parts = [
        "" if record.audio_s is None else audio_length(record.audio_s),
        "" if record.segments is None else f"{record.segments:,} segments",
        "" if record.speakers is None else f"{record.speakers} speakers",
        f"warnings: {' '.join(record.warnings)}" if record.warnings else "",
    ]
    return head + (safe_line(", ".join(filter(None, parts)), encoding) or "done")


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


STATUS_EVERY_S = 30.0


class PlainView(CountingView):
    """A line for each session that is submitted or ends, and the counts now and then.

    Args:
        stream: Gets the lines.
        clock: For each line's time, and the pause between two lines of counts.
        price_per_s: Of a GPU second.
        report: Gets a line for each session that ends.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Clock,
        price_per_s: Decimal | None = None,
        report: ReportFile | None = None,
    ) -> None:
        super().__init__(clock, price_per_s, report)
        self._stream, self._encoding = stream, stream.encoding or "utf-8"
        self._counted_s = clock.monotonic()

    def submitted(self, session: Session, claim: Claim) -> None:
        """Print which job is out."""
        super().submitted(session, claim)
        again = f" (submission {len(claim.earlier) + 1})" if claim.earlier else ""
        job = f"job {claim.job_id}" if claim.job_id else "its answer is not known"
        self._line(f"submitted: {visible(session.prefix, self._encoding)}: {job}{again}")

    def show(self, session: Session, glimpse: JobProgress) -> None:
        """Print the counts if it is time; a poll itself is no news."""
        super().show(session, glimpse)
        self._counts_if_due()

    def ended(self, record: Record) -> None:
        """Print how a session came out, if there was work: a log is no list of the bucket."""
        is_news = not self.tally.is_as_listed(record)
        super().ended(record)
        if is_news:
            self._line(ending_line(record, self._encoding))
        self._counts_if_due()

    def note(self, message: str) -> None:
        """Print one line."""
        self._line(safe_line(message, self._encoding, limit=800))

    def _counts_if_due(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._counted_s >= STATUS_EVERY_S:
            self._counted_s = now_s
            self._line(f"{counts_line(self.tally)}; {totals_line(self.tally)}")

    def _line(self, text: str) -> None:
        self._stream.write(f"{self._clock.now():%Y-%m-%d %H:%M:%SZ} {text}\n")
        self._stream.flush()


class JsonLinesView(CountingView):
    """An object a line for each session that ends; notes alone go to stderr.

    Args:
        out: Gets the objects.
        stream: Gets the notes.
        clock: For each object's ``at``.
        price_per_s: Of a GPU second.
        report: Gets a line for each session that ends.
    """

    def __init__(
        self,
        out: TextIO,
        stream: TextIO,
        clock: Clock,
        price_per_s: Decimal | None = None,
        report: ReportFile | None = None,
    ) -> None:
        super().__init__(clock, price_per_s, report)
        self._out, self._stream = out, stream

    def ended(self, record: Record) -> None:
        """Print the report's line."""
        super().ended(record)
        self._out.write(line_of(record, self._clock))
        self._out.flush()

    def note(self, message: str) -> None:
        """Print one line, beside the objects."""
        self._stream.write(safe_line(message, self._stream.encoding or "utf-8", limit=800) + "\n")
        self._stream.flush()


@contextmanager
def view_for_batch(
    as_json: bool,
    clock: Clock,
    price_per_s: Decimal | None = None,
    report: ReportFile | None = None,
    stream: TextIO | None = None,
) -> Iterator[CountingView]:
    """Choose a view, and take it away again.

    Args:
        as_json: The output is for a program.
        clock: Real, or a test's.
        price_per_s: Of a GPU second, for the summary.
        report: Gets a line for each session that ends.
        stream: Instead of stderr.
    """
    stream = stream or sys.stderr
    if as_json:
        yield JsonLinesView(sys.stdout, stream, clock, price_per_s, report)
    elif stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from rich.console import Console  # rich costs 0.1 s: only who has a terminal pays

        view = LiveView(Console(file=stream), clock, price_per_s, report)
        with view.live():
            yield view
    else:
        yield PlainView(stream, clock, price_per_s, report)


def print_summary(summary: Summary, as_json: bool, out: TextIO | None = None) -> None:
    """Print what a batch came to: people's lines, or an object under the key ``summary``.

    Args:
        summary: After the view was taken away.
        as_json: The last of the JSON lines.
        out: Instead of stdout.
    """
    out = out or sys.stdout
    if as_json:
        out.write(json.dumps({"summary": summary.facts()}) + "\n")
    else:
        lines = summary.text().split("\n")
        out.writelines(f"{visible(line, out.encoding or 'utf-8')}\n" for line in lines)
    out.flush()

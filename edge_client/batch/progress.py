"""Shows a batch: a live table on a terminal, plain lines in a log, JSON lines for programs.

`BatchProgress` counts what it is told and writes the report; its three subclasses show it. Results
go to stdout, everything else to stderr. Names and messages are other people's: what reaches a
stream is safe there. rich costs 0.1 s, so only a live table imports it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from bucketscribe_contract.redact import one_line
from bucketscribe_render.words import clock_time
from edge_client.batch.results import (
    DONE,
    FAILED,
    BatchStats,
    JobInFlight,
    ReportFile,
    ReportLost,
    line_of,
)
from edge_client.batch.types import PlannedAction, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress
from edge_client.output import remaining
from edge_client.session import Session
from edge_client.text import NOTE_CHARS, end_of, say, span, visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live

COUNTS_EVERY_S = 30.0
REFRESHES_PER_S = 4
BAR_WIDTH = 16
COLUMNS: dict[str, tuple[int | None, int]] = {
    "session": (None, 0),
    "state": (9, 64),
    "stage": (10, 0),
    "": (BAR_WIDTH, 110),
    "%": (3, 0),
    "time": (8, 74),
    "left": (17, 92),
}
"""Width, None for what is left, and from what width of the terminal on a column is there: where a
session such as session_2025-12-15T02_47_34_213Z has room beside it."""
_ALWAYS_COUNTED = ("queued", "running", DONE, FAILED)


class BatchProgress:
    """Counts a batch and reports it; what is shown of it is the subclasses' business.

    Called from one thread at a time. ``price_per_s`` is of a GPU second, for the summary;
    ``report`` gets a line for each session that ends.
    """

    def __init__(
        self, clock: Clock, price_per_s: Decimal | None = None, report: ReportFile | None = None
    ) -> None:
        self.stats, self._clock, self._report = BatchStats(clock, price_per_s), clock, report

    def submitted(self, session: Session, claim: Claim) -> None:
        """Take a job that is in flight, newly submitted or found so."""
        self.stats.submitted(session, claim)

    def polled(self, session: Session, progress: JobProgress) -> None:
        """Take what a poll saw."""
        self.stats.polled(session, progress)

    def ended(self, record: Record) -> None:
        """Take a session's end, and report it. A full disk does not end the batch."""
        needed_work = self.stats.ended(record)
        if self._report is not None:
            try:
                self._report.add(record)
            except ReportLost as exc:
                self.stats.report_lost += 1
                if self.stats.report_lost == 1:
                    self.note(f"{exc}; the batch goes on")
        self._show_end(record, needed_work)

    def note(self, message: str) -> None:
        """Tell the user something else."""
        self._line(one_line(message, NOTE_CHARS))

    def _show_end(self, record: Record, needed_work: bool) -> None:
        """Show a session's end."""

    def _line(self, text: str) -> None:
        """Write one line, made safe for the stream."""

    def summary(self, requests: Mapping[str, int] | None = None) -> BatchStats:
        """Sum up at the end; what is still in flight is counted as that."""
        self.stats.close(requests or {})
        return self.stats


def counts_line(stats: BatchStats) -> str:
    """Return how many sessions are where, such as ``3 queued, 2 running, 40 done, 0 failed``."""
    running = sum(job.is_running for job in stats.jobs.copy().values())
    counts = {
        "waiting": len(stats.waiting),
        "queued": len(stats.jobs) - running,
        "running": running,
        DONE: 0,
        FAILED: 0,
        **stats.results.copy(),
        "already done": stats.actions[PlannedAction.DONE],
    }
    shown = {kind: count for kind, count in counts.items() if count or kind in _ALWAYS_COUNTED}
    return ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in shown.items())


def totals_line(stats: BatchStats) -> str:
    """Return how many sessions there are, how much audio is done, and the remaining time."""
    found = "found so far" if stats.is_listing else "in all"
    parts = [f"{stats.found:,} sessions {found}", f"{span(stats.audio_s)} of audio done"]
    left_s = stats.left_s()
    if left_s is not None:
        parts.append(remaining(left_s) + (" for these" if stats.is_listing else ""))
    return ", ".join(parts)


def ending_line(record: Record) -> str:
    """Return how a batch ended for a session, as one line."""
    head = f"{record.result}: {record.session}: "
    if record.result != DONE:
        return head + one_line(record.reason)
    parts = [
        "" if record.audio_s is None else f"{span(record.audio_s)} of audio",
        "" if record.segments is None else f"{record.segments:,} segments",
        "" if record.speakers is None else f"{record.speakers} speakers",
        f"warnings: {' '.join(record.warnings)}" if record.warnings else "",
    ]
    return head + (", ".join(filter(None, parts)) or "done")


class PlainProgress(BatchProgress):
    """A line for each session that is submitted or ends, and the counts now and then."""

    def __init__(self, stream: TextIO, clock: Clock, *more: Any) -> None:
        super().__init__(clock, *more)
        self._stream, self._counted_s = stream, clock.monotonic()

    def submitted(self, session: Session, claim: Claim) -> None:
        """Print which job is in flight."""
        super().submitted(session, claim)
        again = f" (submission {len(claim.earlier) + 1})" if claim.earlier else ""
        job = f"job {claim.job_id}" if claim.job_id else "its job is not known yet"
        self._line(f"submitted: {session.prefix}: {job}{again}")

    def polled(self, session: Session, progress: JobProgress) -> None:
        """Print the counts if it is time; a poll itself gets no line."""
        super().polled(session, progress)
        self._show_counts()

    def _show_counts(self) -> None:
        now_s = self._clock.monotonic()
        if now_s - self._counted_s >= COUNTS_EVERY_S:
            self._counted_s = now_s
            self._line(f"{counts_line(self.stats)}; {totals_line(self.stats)}")

    def _show_end(self, record: Record, needed_work: bool) -> None:
        """Print how a session ended, if there was work: a log does not list the bucket."""
        if needed_work:
            self._line(ending_line(record))
        self._show_counts()

    def _line(self, text: str) -> None:
        self._stream.write(f"{self._clock.now():%Y-%m-%d %H:%M:%SZ} {visible(text)}\n")
        self._stream.flush()


class JsonProgress(BatchProgress):
    """An object a line on stdout for each session that ends; notes alone go to stderr."""

    def _show_end(self, record: Record, needed_work: bool) -> None:
        sys.stdout.write(line_of(record, self._clock))
        sys.stdout.flush()

    def _line(self, text: str) -> None:
        say(text)


class LiveProgress(BatchProgress):
    """The counts above a table of the jobs in flight, running ones first.

    rich's thread draws it, and reads the counts without a lock.
    """

    def __init__(self, console: Console, clock: Clock, *more: Any) -> None:
        super().__init__(clock, *more)
        self._console = console

    def live(self) -> Live:
        """Return what keeps the table in place while it is entered; it disappears at the end."""
        from rich.live import Live

        return Live(
            console=self._console,
            get_renderable=lambda: self,
            refresh_per_second=REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            vertical_overflow="crop",
        )

    def _show_end(self, record: Record, needed_work: bool) -> None:
        """Print a line above the table for what did not go well."""
        if record.result != DONE and needed_work:
            self._line(ending_line(record))

    def _line(self, text: str) -> None:
        from rich.text import Text

        self._console.print(Text(visible(text)), soft_wrap=True)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the counts, and below them as many jobs as there is room for."""
        from rich.table import Table
        from rich.text import Text

        yield Text(f"{counts_line(self.stats)}\n{totals_line(self.stats)}")
        jobs = sorted(self.stats.jobs.copy().values(), key=lambda job: not job.is_running)
        columns = [name for name, (_, least) in COLUMNS.items() if options.max_width >= least]
        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
        for name in columns:
            width = COLUMNS[name][0]
            table.add_column(
                name,
                ratio=None if width else 1,
                width=width,
                no_wrap=True,
                overflow="crop" if options.ascii_only else "ellipsis",
                justify="right" if name in ("%", "time") else "left",
            )
        others = [COLUMNS[name][0] for name in columns[1:]]
        room = options.max_width - sum(2 + (width or 0) for width in others)
        one_user = len({job.session.user for job in jobs}) == 1
        for job in jobs[: console.size.height]:
            cells = self._cells(job)
            name = visible(f"{'' if one_user else f'{job.session.user}/'}{job.session.name}")
            cells["session"] = Text(end_of(name, room, "" if options.ascii_only else "…"))
            table.add_row(*(cells[name] for name in columns))
        yield table

    def _cells(self, job: JobInFlight) -> dict[str, RenderableType]:
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        seen, percent = job.progress, job.progress.percent
        age_s = (self._clock.now() - job.submitted_at).total_seconds()
        left = "" if job.ends_at_s is None else remaining(job.ends_at_s - self._clock.monotonic())
        words = {
            "state": seen.state,
            "stage": seen.stage or "",
            "%": "" if percent is None else f"{percent:.0f}",
            "time": clock_time(age_s),
            "left": left,
        }
        cells: dict[str, RenderableType] = {"": ProgressBar(100, percent or 0, width=BAR_WIDTH)}
        return cells | {name: Text(visible(word)) for name, word in words.items()}


@contextmanager
def progress_for(as_json: bool, clock: Clock, *more: Any) -> Iterator[BatchProgress]:
    """Show a batch as its output needs it: for a program (``as_json``), a terminal or a log."""
    stream, counted = sys.stderr, (clock, *more)
    if as_json:
        yield JsonProgress(*counted)
    elif stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):
        from rich.console import Console

        table = LiveProgress(Console(file=stream), *counted)
        with table.live():
            yield table
    else:
        yield PlainProgress(stream, *counted)

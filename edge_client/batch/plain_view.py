"""A batch as lines: for logs, and for programs."""

from __future__ import annotations

from decimal import Decimal
from typing import TextIO

from edge_client.batch.counting_view import CountingView
from edge_client.batch.phrases import counts_line, ending_line, totals_line
from edge_client.batch.printable import safe_line, visible
from edge_client.batch.report_file import ReportFile, line_of
from edge_client.batch.values import Record
from edge_client.claim import Claim
from edge_client.clock import Clock
from edge_client.follow import Glimpse
from edge_client.layout import Session

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

    def show(self, session: Session, glimpse: Glimpse) -> None:
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

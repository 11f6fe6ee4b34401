"""What every view of a batch does: it counts, writes the report, and sums up."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from edge_client.batch.report_file import ReportFile, ReportLost
from edge_client.batch.summary import Summary, summary_of
from edge_client.batch.tally import Tally
from edge_client.batch.values import Item, Record
from edge_client.claim import Claim
from edge_client.clock import Clock
from edge_client.follow import Glimpse
from edge_client.layout import Session


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

    def show(self, session: Session, glimpse: Glimpse) -> None:
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

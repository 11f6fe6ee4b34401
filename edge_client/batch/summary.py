"""What a batch came to: for people, for programs, and as an exit code. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from edge_client.batch.printable import audio_length, clock_time, safe_line, visible
from edge_client.batch.tally import FAILED, WAITING, Named, Tally
from edge_client.batch.values import OUT, Need
from edge_client.verdict import Result

_DONE, _SKIPPED = Result.DONE.value, Result.SKIPPED.value
_REFUSED, _BEFORE = Need.REFUSED.value, Need.FAILED_BEFORE.value
_NOT_MERGED = Need.NOT_MERGED.value
_HARMLESS = frozenset([_DONE, _SKIPPED, _NOT_MERGED])
_UNFINISHED = (OUT, WAITING)
_REMARKS = {
    FAILED: "",
    _BEFORE: " (--session, --retry-failed, --force or another recording run them)",
    _REFUSED: "",
    OUT: " (the same command follows them)",
    WAITING: " (the same command submits them)",
    _NOT_MERGED: " (chunks without an audio.wav)",
    _SKIPPED: " (no recording)",
}


@dataclass(frozen=True)
class Summary:
    """A batch that has ended, finished or not.

    Attributes:
        counts: Sessions by how they came out.
        named: The first of each kind.
        already_done: Sessions that needed nothing.
        listing_ended: The whole bucket was looked at.
        gpu_unknown: Sessions whose GPU time nobody told.
        requests: How many of each kind were made, where that is known.
        report_lost: Sessions that are not in the report, and should be.
    """

    counts: Mapping[str, int]
    named: Mapping[str, tuple[Named, ...]]
    found: int
    pending: int
    already_done: int
    listing_ended: bool
    audio_s: float
    gpu_s: float
    gpu_unknown: int
    wall_s: float
    price_per_s: Decimal | None = None
    requests: Mapping[str, int] = field(default_factory=dict)
    report_lost: int = 0

    @property
    def succeeded(self) -> int:
        """Sessions that this run saw to their transcript."""
        return self.counts.get(_DONE, 0)

    @property
    def failed(self) -> int:
        """Sessions that have no transcript and will not get one by themselves."""
        good = _HARMLESS.union(_UNFINISHED)
        return sum(count for kind, count in self.counts.items() if kind not in good)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left over that the same command would go on with."""
        return self.listing_ended and not any(self.counts.get(kind) for kind in _UNFINISHED)

    @property
    def exit_code(self) -> int:
        """0 if everything that was pending is done."""
        return 0 if self.is_complete and not self.failed and not self.report_lost else 1

    @property
    def cost(self) -> Decimal | None:
        """What the GPU seconds cost, in the currency of the price; None without a price."""
        if self.price_per_s is None:
            return None
        cost = self.price_per_s * Decimal(str(self.gpu_s))
        return round(cost, 2 if cost >= 1 else 4)

    def text(self) -> str:
        """Say it to people."""
        named = [line for kind in self._kinds() for line in self._named(kind)]
        return "\n".join([self._headline(), *named, *self._totals()])

    def facts(self) -> dict[str, Any]:
        """Say it to programs."""
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "complete": self.is_complete,
            "exit_code": self.exit_code,
            "sessions_found": self.found,
            "already_done": self.already_done,
            "counts": dict(self.counts),
            "named": {kind: [asdict(one) for one in ones] for kind, ones in self.named.items()},
            "audio_seconds": round(self.audio_s, 3),
            "gpu_seconds": round(self.gpu_s, 3),
            "gpu_seconds_unknown_of": self.gpu_unknown,
            "cost": None if self.cost is None else float(self.cost),
            "wall_seconds": round(self.wall_s, 3),
            "requests": dict(self.requests),
            "report_lost": self.report_lost,
        }

    def _headline(self) -> str:
        counts = f"{self.succeeded:,} succeeded, {self.failed:,} failed"
        if not self.is_complete:
            more = "" if self.listing_ended else "; the listing did not end"
            return f"Not complete: {counts}{more}"
        if not self.pending:
            return "No sessions pending transcription"
        return f"Complete: {counts}"

    def _kinds(self) -> list[str]:
        known = [kind for kind in _REMARKS if self.counts.get(kind)]
        return known + sorted(k for k in self.counts if k != _DONE and k not in _REMARKS)

    def _named(self, kind: str) -> list[str]:
        count, named = self.counts[kind], self.named.get(kind, ())
        more = [f"    and {count - len(named):,} more"] if count > len(named) else []
        head = f"  {visible(kind).replace('_', ' ')}: {count:,}{_REMARKS.get(kind, '')}"
        return [head, *(f"    {_words(one)}" for one in named), *more]

    def _totals(self) -> list[str]:
        lines = [f"  already done: {self.already_done:,}"] if self.already_done else []
        if self.pending:
            lines.append(f"  {', '.join(self._amounts())}")
        if self.requests:
            made = ", ".join(f"{count:,} {kind}" for kind, count in self.requests.items())
            lines.append(f"  requests: {made}")
        if self.report_lost:
            lines.append(f"  the report lacks {self.report_lost:,} of these sessions")
        return lines

    def _amounts(self) -> list[str]:
        unknown = f" and what {self.gpu_unknown:,} jobs took" if self.gpu_unknown else ""
        cost = "" if self.cost is None else f" (cost {self.cost:,})"
        return [
            audio_length(self.audio_s),
            f"{self.gpu_s:,.0f} GPU seconds{unknown}{cost}",
            f"{clock_time(self.wall_s)} by the clock",
        ]


def _words(named: Named) -> str:
    text = f"{named.code}: {named.message}" if named.code else named.message
    return f"{visible(named.session)}: {safe_line(text)}"


def summary_of(
    tally: Tally,
    now_s: float,
    price_per_s: Decimal | None = None,
    requests: Mapping[str, int] | None = None,
    report_lost: int = 0,
) -> Summary:
    """Sum a tally up. What is still in flight counts as out.

    Args:
        tally: Its batch has ended.
        now_s: Monotonic.
        price_per_s: Of a GPU second, in any currency.
        requests: How many of each kind were made.
        report_lost: Lines that the report file lacks.
    """
    tally.close()
    return Summary(
        counts=dict(tally.results),
        named=dict(tally.named),
        found=tally.found,
        pending=tally.pending,
        already_done=tally.needs[Need.DONE],
        listing_ended=not tally.listing,
        audio_s=tally.audio_s,
        gpu_s=tally.gpu_s,
        gpu_unknown=tally.gpu_unknown,
        wall_s=now_s - tally.started_s,
        price_per_s=price_per_s,
        requests=requests or {},
        report_lost=report_lost,
    )

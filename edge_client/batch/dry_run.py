"""``edge-client batch --dry-run``: what would run, a line each as it is found, and the sums.

Reads the bucket as a batch does; writes and posts nothing. A recording's length costs a ranged GET:
the first 500 that would run are read from their headers, all others are computed from their size,
at the bytes a second of those. Memory does not grow with the bucket.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from typing import Any

from rich.filesize import decimal as size_text

from bucketscribe_render.words import clock_time
from edge_client.batch.limits import GPU_FACTOR, GPU_S_A_JOB
from edge_client.batch.listing import in_order
from edge_client.batch.plan import plan
from edge_client.batch.results import NAMED_AT_MOST, named_lines
from edge_client.batch.types import WAV_BYTES_PER_S, Filter, PlannedAction, PlannedSession, Record
from edge_client.errors import AudioNotFound, ObjectRefused
from edge_client.jobs.submit import read_recording
from edge_client.services.edge import Edge
from edge_client.services.presign import Length
from edge_client.text import Printer, safe_line, session_count, span, visible

MEASURED_AT_MOST = 500
SESSION_CHARS = 44
_HEADER = f"{'':6}  {'size':>9}  {'audio':>9}  {'session':{SESSION_CHARS}}  why"

Measure = Callable[[PlannedSession], Length | None]
Measured = tuple[PlannedSession, Length | None]
"""What a batch would do with a session, and for how much audio; None where nothing would run."""


def dry_run(edge: Edge, chosen: Filter, printer: Printer) -> int:
    """Print what a batch would run; return the exit code: 1 if something is refused."""
    sums = Sums(chosen.limit, edge.settings.price_per_s)
    with closing(plan(edge, chosen)) as planned:
        show(measure_all(planned, partial(_length, edge)), sums, printer)
    return 1 if sums.counts[PlannedAction.REFUSED] else 0


def _length(edge: Edge, planned: PlannedSession) -> Length | None:
    """Read a recording's length; None if the recording is gone, or may not be read."""
    try:
        return read_recording(edge, planned.session).length
    except (AudioNotFound, ObjectRefused):
        return None


def measure_all(
    sessions: Iterable[PlannedSession], measure: Measure, at_most: int = MEASURED_AT_MOST
) -> Generator[Measured, None, None]:
    """Add to each session that would run how long its recording is; ``measure`` runs in threads."""
    read_bytes = read_s = 0.0
    for planned, length in in_order(_lengths(sessions, measure, at_most)):
        size_bytes = planned.audio.size_bytes if planned.audio is not None else 0
        if planned.action.is_work and length is None:
            rate = read_bytes / read_s if read_s else WAV_BYTES_PER_S
            length = Length(size_bytes / rate, is_estimate=True)
        elif planned.action is PlannedAction.SUBMIT and length and not length.is_estimate:
            read_bytes, read_s = read_bytes + size_bytes, read_s + length.duration_s
        yield planned, length


def _lengths(
    sessions: Iterable[PlannedSession], measure: Measure, left: int
) -> Iterator[Measured | partial[Measured]]:
    for planned in sessions:
        if planned.action is PlannedAction.SUBMIT and left > 0:
            left -= 1
            yield partial(lambda each: (each, measure(each)), planned)
        elif planned.action is PlannedAction.FOLLOW and planned.claim is not None:
            yield planned, Length(planned.claim.duration_s)
        else:
            yield planned, None


class Sums:
    """What a dry run adds up to, with ``--limit`` and the price of a GPU second, if known."""

    def __init__(self, limit: int | None = None, price_per_s: Decimal | None = None) -> None:
        self._limit, self._price = limit, price_per_s
        self.counts: Counter[PlannedAction] = Counter()
        self._audio_s: defaultdict[PlannedAction, float] = defaultdict(float)
        self._estimated = 0
        self._named: defaultdict[PlannedAction, list[Record]] = defaultdict(list)

    def add(self, planned: PlannedSession, length: Length | None) -> None:
        """Count one more session."""
        action = planned.action
        self.counts[action] += 1
        if length is not None:
            self._audio_s[action] += length.duration_s
            self._estimated += length.is_estimate
        is_named = not action.is_work and action is not PlannedAction.DONE
        if is_named and len(self._named[action]) < NAMED_AT_MOST:
            self._named[action].append(Record(planned.session.prefix, action, planned.why))

    @property
    def work(self) -> int:
        """How many sessions would be submitted or followed."""
        return self.counts[PlannedAction.SUBMIT] + self.counts[PlannedAction.FOLLOW]

    @property
    def gpu_s(self) -> float:
        """Estimated seconds of GPU time of what would be submitted."""
        jobs = self.counts[PlannedAction.SUBMIT]
        return GPU_FACTOR * self._audio_s[PlannedAction.SUBMIT] + GPU_S_A_JOB * jobs

    @property
    def cost(self) -> float | None:
        """What that costs; None without a price."""
        return None if self._price is None else self.gpu_s * float(self._price)

    @property
    def is_cut_short(self) -> bool:
        """Whether the listing ended because there was as much work as was allowed."""
        return self._limit is not None and self.work >= self._limit

    def text(self) -> str:
        """Return the sums for people."""
        submitted, audio_s = self.counts[PlannedAction.SUBMIT], self._audio_s
        lines = [] if self.work else ["No sessions pending transcription"]
        if submitted:
            about = "about " if self._estimated else ""
            audio = f"{span(audio_s[PlannedAction.SUBMIT])} of audio"
            lines.append(f"would submit: {session_count(submitted)}, {about}{audio}")
            if self._estimated:
                exact = submitted - self._estimated
                lines.append(f"  lengths: {exact:,} measured, {self._estimated:,} estimated")
            cost = "" if self.cost is None else f", cost {self.cost:,.2f}"
            rule = f"{GPU_FACTOR} x audio + {GPU_S_A_JOB:.0f} s a job, without cold starts"
            lines.append(f"  GPU time, estimated: {span(self.gpu_s)}{cost} ({rule})")
        if followed := self.counts[PlannedAction.FOLLOW]:
            audio = f"{span(audio_s[PlannedAction.FOLLOW])} of audio"
            lines.append(f"would follow: {session_count(followed)}, {audio}")
        for action, named in sorted(self._named.items()):
            lines += named_lines(action, self.counts[action], named)
        lines.append(f"already done: {self.counts[PlannedAction.DONE]:,}")
        if self.is_cut_short:
            lines.append(f"the listing ended at --limit {self._limit}: there may be more")
        return "\n".join(lines)

    def facts(self) -> dict[str, Any]:
        """Return the sums for programs."""
        return {
            "sessions": {action.value: self.counts[action] for action in PlannedAction},
            "audio_seconds": round(self._audio_s[PlannedAction.SUBMIT], 3),
            "audio_seconds_followed": round(self._audio_s[PlannedAction.FOLLOW], 3),
            "lengths_estimated": self._estimated,
            "gpu_seconds_estimated": round(self.gpu_s, 3),
            "cost_estimated": None if self.cost is None else round(self.cost, 4),
            "ended_at_limit": self.is_cut_short,
        }


def show(sessions: Iterable[Measured], sums: Sums, printer: Printer) -> None:
    """Print sessions as they come, adding them up, and the sums at the end.

    As JSON a line is an object: every session but those done, then ``summary``.
    """
    for planned, length in sessions:
        sums.add(planned, length)
        if printer.as_json and planned.action is not PlannedAction.DONE:
            printer.result(_facts(planned, length))
        elif not printer.as_json and planned.action.is_work:
            if sums.work == 1:
                printer.text(_HEADER)
            printer.text(_line(planned, length))
    above = [""] if sums.work else []
    printer.result({"summary": sums.facts()}, *above, *sums.text().split("\n"))


def _line(planned: PlannedSession, length: Length | None) -> str:
    size = "" if planned.audio is None else size_text(planned.audio.size_bytes)
    length = length or Length(0.0)
    audio = ("~" if length.is_estimate else "") + clock_time(length.duration_s)
    session = visible(planned.session.prefix)
    why = safe_line(planned.why)
    return f"{planned.action:6}  {size:>9}  {audio:>9}  {session:{SESSION_CHARS}}  {why}"


def _facts(planned: PlannedSession, length: Length | None) -> dict[str, Any]:
    followed = planned.claim if planned.action is PlannedAction.FOLLOW else None
    return {
        "session": planned.session.prefix,
        "need": planned.action.value,
        "why": planned.why,
        "audio_bytes": None if planned.audio is None else planned.audio.size_bytes,
        "audio_seconds": None if length is None else round(length.duration_s, 3),
        "is_estimated": length is not None and length.is_estimate,
        "job_id": None if followed is None else followed.job_id,
    }

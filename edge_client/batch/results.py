"""Counts a batch while it goes on. Memory holds what is open, never what is done.

Written by the batch's thread alone. A live table's thread reads at the same time and takes no
lock, so that neither can wait for the other: it reads single values, and copies of the dicts.

Turns a session's end, however it came, into the line of the report. Pure.

What a batch came to: for people, for programs, and as an exit code. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

from bucketscribe_contract.redact import one_line
from edge_client.batch.types import OUT, Item, Need, Record
from edge_client.clock import Clock
from edge_client.errors import EdgeError
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import Estimate, JobProgress
from edge_client.jobs.reconcile import End
from edge_client.jobs.retry_policy import Result, cause_name
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from edge_client.text import audio_length, clock_time, safe_line, visible


def of_end(session: Session, end: End, now: datetime) -> Record:
    """Return the record of a session whose last submission ended."""
    outcome, claim, delivered = end.outcome, end.claim, end.outcome.delivered
    message = f"{outcome.message}; {outcome.warning}" if outcome.warning else outcome.message
    return Record(
        session=session.prefix,
        result=outcome.result.value,
        message=one_line(message),
        code=None if outcome.cause is None else cause_name(outcome.cause),
        job_id=claim.job_id,
        submissions=(*(a.ended for a in claim.earlier), outcome.result.value),
        audio_s=claim.duration_s if delivered is None else delivered.duration_s,
        gpu_s=_gpu_s(end),
        segments=None if delivered is None else delivered.segments_count,
        speakers=None if delivered is None else delivered.speakers_count,
        language=None if delivered is None else delivered.language,
        warnings=() if delivered is None else delivered.warnings,
        ended_at=now.isoformat(timespec="seconds"),
    )


def _gpu_s(end: End) -> float | None:
    if end.status is not None and end.status.execution_time_ms is not None:
        return end.status.execution_time_ms / 1000
    return None if end.outcome.delivered is None else end.outcome.delivered.processing_s


def of_error(session: Session, claim: Claim | None, exc: EdgeError, now: datetime) -> Record:
    """Return the record of a session that a service's refusal, or absence, ended here.

    Args:
        session: Which.
        claim: Of the job that is out; None if there is none.
        exc: Why it is not followed any further, or not submitted.
        now: The time of day, in UTC.
    """
    return Record(
        session=session.prefix,
        result=Result.FAILED.value if claim is None else OUT,
        message=one_line(str(exc)),
        code=exc.code,
        job_id=None if claim is None else claim.job_id,
        audio_s=None if claim is None else claim.duration_s,
        ended_at=now.isoformat(timespec="seconds"),
    )


def of_left(session: Session, claim: Claim, message: str, now: datetime) -> Record:
    """Return the record of a session whose job goes on without this batch."""
    return Record(
        session=session.prefix,
        result=OUT,
        message=message,
        job_id=claim.job_id,
        submissions=tuple(a.ended for a in claim.earlier),
        audio_s=claim.duration_s,
        ended_at=now.isoformat(timespec="seconds"),
    )


def of_item(item: Item, now: datetime) -> Record:
    """Return the record of a session that needs no work."""
    return Record(
        session=item.session.prefix,
        result=item.need.value,
        message=one_line(item.why),
        ended_at=now.isoformat(timespec="seconds"),
    )


NAMED_AT_MOST = 20
WAV_BYTES_PER_S = 32_000
"""16 kHz, 16 bits, mono: the recordings of the seed's layout. Only the time left builds on it."""
LEAST_SPAN_S = 30.0
"""Before that, a batch's pace says nothing."""
WAITING = "not_submitted"
FAILED = Result.FAILED.value
_AS_LISTED = frozenset(need.value for need in Need if not need.is_work)
_GROUP = {
    Result.LOST.value: FAILED,
    Result.CANCELLED.value: FAILED,
    Need.NO_AUDIO.value: Result.SKIPPED.value,
}


@dataclass(frozen=True, slots=True)
class Named:
    """A session that is named at the end."""

    session: str
    code: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job that is in flight.

    Attributes:
        audio_s: The recording's length, where the claim knows it.
        counted_percent: So much of it was there before this run, or is counted as work.
        ends_at_s: Monotonic, estimated.
    """

    session: Session
    submitted_at: datetime
    audio_s: float
    estimate: Estimate
    glimpse: JobProgress = JobProgress("submitted")
    counted_percent: float | None = 0.0
    ends_at_s: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether a worker has it."""
        return self.glimpse.state == "running"


class Tally:
    """What a batch has seen so far.

    Attributes:
        found: How many sessions the listing has shown.
        needs: The same, by need.
        results: How many sessions ended, and how many needed no work, by group.
        named: The first sessions of each group.
        jobs: What is in flight, by prefix, oldest first.
        pending: How many sessions were to be submitted or followed.
        gpu_unknown: Of how many jobs that ended well nobody told the GPU time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.started_s = clock.monotonic()
        self._started_at = clock.now()
        self.listing = True
        self.needs: Counter[Need] = Counter()
        self.results: Counter[str] = Counter()
        self.named: dict[str, tuple[Named, ...]] = {}
        self.jobs: dict[str, Job] = {}
        self.audio_s = self.gpu_s = 0.0
        self.found = self.pending = self.gpu_unknown = 0
        self._open: dict[str, float] = {}
        self._first_out_s: float | None = None
        self._worked_s = 0.0

    @property
    def waiting(self) -> tuple[str, ...]:
        """Sessions that were found and not submitted yet."""
        return tuple(session for session in self._open.copy() if session not in self.jobs)

    def listed(self, item: Item) -> None:
        """Take a session of the listing."""
        self.found += 1
        self.needs[item.need] += 1
        if item.need.is_work:
            self.pending += 1
            self._open[item.session.prefix] = _guessed_s(item.audio)
        elif item.need is not Need.DONE:
            self._count(item.need.value, Named(item.session.prefix, None, item.why))

    def submitted(self, session: Session, claim: Claim) -> None:
        """Take a job that is out; again if it is submitted again."""
        now_s = self._clock.monotonic()
        self._first_out_s = now_s if self._first_out_s is None else self._first_out_s
        self.pending += session.prefix not in self._open
        audio_s = claim.duration_s or self._open.get(session.prefix, 0.0)
        self._open[session.prefix] = audio_s
        mine = claim.submitted_at >= self._started_at
        self.jobs[session.prefix] = Job(
            session,
            claim.submitted_at,
            audio_s,
            Estimate(),
            counted_percent=0.0 if mine else None,
        )

    def show(self, session: Session, glimpse: JobProgress) -> None:
        """Take what a poll saw."""
        job = self.jobs.get(session.prefix)
        if job is None:
            return
        now_s = self._clock.monotonic()
        left_s = job.estimate.left_s(now_s, glimpse.percent)
        left_s = left_s if glimpse.left_s is None else glimpse.left_s
        self.jobs[session.prefix] = replace(
            job,
            glimpse=glimpse,
            counted_percent=self._worked(job, glimpse.percent),
            ends_at_s=None if left_s is None else now_s + left_s,
        )

    def is_as_listed(self, record: Record) -> bool:
        """Whether a session that ends needed no work: the listing said so already."""
        return record.session not in self._open and record.result in _AS_LISTED

    def ended(self, record: Record) -> None:
        """Take a session's end. One that needed no work was counted when it was listed."""
        if self.is_as_listed(record):
            return
        expected_s = self._open.pop(record.session, None)
        job = self.jobs.pop(record.session, None)
        self._count(record.result, Named(record.session, record.code, record.message))
        self.gpu_s += record.gpu_s or 0.0
        if record.result == Result.DONE.value:
            self.gpu_unknown += record.gpu_s is None
            audio_s = record.audio_s if record.audio_s is not None else expected_s
            self.audio_s += audio_s or 0.0
            if job is not None:
                self._worked(job, 100.0)

    def close(self) -> None:
        """Know that the batch ends here: what is still open, stays so."""
        for session in self.jobs:
            self._count(OUT, Named(session, None, "its job goes on"))
        for session in self.waiting:
            self._count(WAITING, Named(session, None, "found, but its turn did not come"))
        self.jobs.clear()
        self._open.clear()

    def left_s(self) -> float | None:
        """Estimate how long what was found so far takes, from the pace so far; None if unknown."""
        if self._first_out_s is None or not self._worked_s:
            return None
        span_s = self._clock.monotonic() - self._first_out_s
        if span_s < LEAST_SPAN_S:
            return None
        done_s = sum(
            job.audio_s * (job.counted_percent or 0.0) / 100 for job in self.jobs.copy().values()
        )
        left_s = sum(self._open.copy().values()) - done_s
        return span_s * left_s / self._worked_s if left_s > 0 else None

    def _worked(self, job: Job, percent: float | None) -> float | None:
        """Count the audio that was worked through since the last look; return up to where."""
        if percent is None:
            return job.counted_percent
        if job.counted_percent is None:
            return percent
        self._worked_s += job.audio_s * max(0.0, percent - job.counted_percent) / 100
        return max(percent, job.counted_percent)

    def _count(self, result: str, named: Named) -> None:
        group = _GROUP.get(result, result)
        self.results[group] += 1
        there = self.named.get(group, ())
        if group != Result.DONE.value and len(there) < NAMED_AT_MOST:
            self.named[group] = (*there, named)


def _guessed_s(audio: ObjectInfo | None) -> float:
    return 0.0 if audio is None else audio.size_bytes / WAV_BYTES_PER_S


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

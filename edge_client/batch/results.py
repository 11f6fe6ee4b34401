"""What came of a batch: a `Record` for each session that ended, what they add up to, their report.

`BatchStats` counts while the batch runs, in its thread; memory holds what is open, never what is
done. A live table's thread reads it without a lock: single values, and copies of the dicts. A line
of the report is written at once and whole: a killed batch loses at most the end of its last line,
which the next run marks as torn. Several runs, and several boxes, can share a file.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from bucketscribe_contract.redact import one_line
from bucketscribe_render.words import clock_time
from edge_client.batch.types import IN_FLIGHT, NO_FAILURE, PlannedAction, PlannedSession, Record
from edge_client.clock import Clock
from edge_client.errors import BadUsage, EdgeError
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress
from edge_client.jobs.reconcile import Done
from edge_client.jobs.retry_policy import Result
from edge_client.session import RecordingPattern, Session
from edge_client.text import Printer, safe_line, span, visible

NAMED_AT_MOST = 20
LEAST_SPAN_S = 30.0
"""Before that, a batch's pace says nothing."""
DONE, FAILED, WAITING = Result.DONE.value, Result.FAILED.value, "not_submitted"
_UNFINISHED = (IN_FLIGHT, WAITING, Result.HELD)
_COUNTED_AS: dict[str, str] = {
    Result.LOST: FAILED,
    Result.CANCELLED: FAILED,
    PlannedAction.NO_AUDIO: Result.SKIPPED,
}
_REMARKS: dict[str, str] = {
    FAILED: "",
    PlannedAction.FAILED_BEFORE: " (--session, --retry-failed, --force or another recording "
    "run them)",
    PlannedAction.REFUSED: "",
    Result.UNPROVEN: " (--changed submits them)",
    Result.HELD: " (the endpoint's fault: mend it, then the same command submits them)",
    IN_FLIGHT: " (the same command follows them)",
    WAITING: " (the same command submits them)",
    PlannedAction.NOT_MERGED: " (chunks without an audio.wav)",
    Result.SKIPPED: " (no recording)",
}


def record_end(done: Done) -> Record:
    """Return the record of a session whose last submission ended, or that needed none."""
    outcome, delivered = done.outcome, done.outcome.transcript
    message = f"{outcome.message}; {outcome.warning}" if outcome.warning else outcome.message
    record = record_without_end(done.session, outcome.result, message, done.claim, outcome.code)
    last = () if done.claim is None else (record.code or record.result,)
    record = replace(record, submissions=(*record.submissions, *last), gpu_s=done.gpu_s)
    if delivered is None:
        return record
    return replace(
        record,
        audio_s=delivered.duration_seconds,
        segments=delivered.segments_count,
        speakers=delivered.speakers_count,
        language=delivered.language,
        warnings=delivered.warnings,
    )


def record_without_end(
    session: Session, result: str, message: str, claim: Claim | None = None, code: str | None = None
) -> Record:
    """Return the record of a session of which no submission ended in this batch.

    ``claim`` is of the job that is in flight, ``code`` of the error for which the batch gave the
    session up. Secrets in the message are masked.
    """
    return Record(
        session=session.prefix,
        result=result,
        message=one_line(message),
        code=code,
        job_id=None if claim is None else claim.job_id,
        submissions=() if claim is None else tuple(a.ended for a in claim.earlier),
        audio_s=None if claim is None else claim.duration_s,
    )


def named_lines(kind: str, count: int, named: Sequence[Record]) -> Iterator[str]:
    """Yield how many sessions are of a kind, the first of them, and how many more there are."""
    yield f"{kind.replace('_', ' ')}: {count:,}{_REMARKS.get(kind, '')}"
    for each in named:
        yield f"  {visible(each.session)}: {safe_line(each.reason)}"
    if count > len(named):
        yield f"  and {count - len(named):,} more"


@dataclass(frozen=True, slots=True)
class JobInFlight:
    """A job that is in flight; ``ends_at_s`` is monotonic, and an estimate."""

    session: Session
    submitted_at: datetime
    progress: JobProgress = JobProgress("submitted")
    ends_at_s: float | None = None

    @property
    def is_running(self) -> bool:
        """Whether a worker has it."""
        return self.progress.state == "running"


class BatchStats:
    """What a batch has seen so far; `close` it to sum it up. ``price_per_s`` is of a GPU second.

    Attributes:
        is_listing: More sessions may be found.
        found: How many sessions the listing has shown; ``actions`` has them by action.
        results: How many sessions ended, or needed no work, by result.
        named: The first sessions of each result.
        jobs: What is in flight, by prefix, oldest first.
        pending: How many sessions were to be submitted or followed.
        gpu_unknown: Jobs that ended well and whose GPU time is not known.
        report_lost: Sessions that the report lacks.
        requests: How many of each kind were made, such as ``{"LIST": 102}``; after `close`.
    """

    def __init__(self, clock: Clock, price_per_s: Decimal | None = None) -> None:
        self._clock, self._price_per_s = clock, price_per_s
        self._started_s, self._wall_s = clock.monotonic(), 0.0
        self.is_listing = True
        self.actions: Counter[PlannedAction] = Counter()
        self.results: Counter[str] = Counter()
        self.named: dict[str, tuple[Record, ...]] = {}
        self.jobs: dict[str, JobInFlight] = {}
        self.audio_s = self.gpu_s = 0.0
        self.found = self.pending = self.gpu_unknown = self.report_lost = 0
        self.requests: Mapping[str, int] = {}
        self._open: dict[str, float] = {}
        self._first_job_s = math.inf

    @property
    def waiting(self) -> tuple[str, ...]:
        """Sessions that were found and not submitted yet."""
        return tuple(session for session in self._open.copy() if session not in self.jobs)

    def listed(self, planned: PlannedSession) -> None:
        """Count a session of the listing."""
        self.found += 1
        self.actions[planned.action] += 1
        if planned.action.is_work:
            self.pending += 1
            self._open[planned.session.prefix] = planned.likely_s

    def submitted(self, session: Session, claim: Claim) -> None:
        """Count a job that is in flight; again if it is submitted again."""
        self._first_job_s = min(self._first_job_s, self._clock.monotonic())
        self.pending += session.prefix not in self._open
        self._open[session.prefix] = claim.duration_s or self._open.get(session.prefix, 0.0)
        self.jobs[session.prefix] = JobInFlight(session, claim.submitted_at)

    def polled(self, session: Session, progress: JobProgress) -> None:
        """Take what a poll saw."""
        if (job := self.jobs.get(session.prefix)) is not None:
            left_s = progress.left_s
            ends_at_s = None if left_s is None else self._clock.monotonic() + left_s
            self.jobs[session.prefix] = replace(job, progress=progress, ends_at_s=ends_at_s)

    def ended(self, record: Record) -> bool:
        """Count a session's end; return whether it needed work."""
        expected_s = self._open.pop(record.session, None)
        self.jobs.pop(record.session, None)
        self._count(record)
        self.gpu_s += record.gpu_s or 0.0
        if record.result == DONE:
            self.gpu_unknown += record.gpu_s is None
            audio_s = record.audio_s if record.audio_s is not None else expected_s
            self.audio_s += audio_s or 0.0
        return expected_s is not None

    def close(self, requests: Mapping[str, int]) -> None:
        """Count what is still open as unfinished: the batch ends here."""
        self._wall_s, self.requests = self._clock.monotonic() - self._started_s, requests
        for session in self.jobs:
            self._count(Record(session, IN_FLIGHT, "its job goes on"))
        for session in self.waiting:
            self._count(Record(session, WAITING, "found, but not submitted yet"))
        self.jobs.clear()
        self._open.clear()

    def left_s(self) -> float | None:
        """Estimate how long what was found so far takes, from the pace so far; None if unknown."""
        span_s = self._clock.monotonic() - self._first_job_s
        left_s = sum(self._open.copy().values())
        is_known = self.audio_s and left_s and span_s >= LEAST_SPAN_S
        return span_s * left_s / self.audio_s if is_known else None

    def _count(self, record: Record) -> None:
        result = _COUNTED_AS.get(record.result, record.result)
        self.results[result] += 1
        before = self.named.get(result, ())
        if result != DONE and len(before) < NAMED_AT_MOST:
            self.named[result] = (*before, record)

    @property
    def succeeded(self) -> int:
        """Sessions that got their transcript in this run."""
        return self.results[DONE]

    @property
    def failed(self) -> int:
        """Sessions that have no transcript and will not get one by themselves."""
        counts = self.results.items()
        return sum(count for kind, count in counts if kind not in NO_FAILURE.union(_UNFINISHED))

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left over that the same command would go on with."""
        counts = self.results
        return not self.is_listing and not any(counts.get(kind) for kind in _UNFINISHED)

    @property
    def exit_code(self) -> int:
        """0 if everything that was pending is done."""
        return 0 if self.is_complete and not self.failed and not self.report_lost else 1

    @property
    def cost(self) -> Decimal | None:
        """What the GPU seconds cost, in the currency of the price; None without a price."""
        if self._price_per_s is None:
            return None
        cost = self._price_per_s * Decimal(str(self.gpu_s))
        return round(cost, 2 if cost >= 1 else 4)

    def show(self, printer: Printer) -> None:
        """Print the summary: people's lines, or an object under the key ``summary``."""
        printer.result({"summary": self.facts()}, *self.text().split("\n"))

    def facts(self) -> dict[str, Any]:
        """Return the summary for programs."""
        named = {
            kind: [{"session": r.session, "code": r.code, "message": r.message} for r in first]
            for kind, first in self.named.items()
        }
        return {
            "succeeded": self.succeeded,
            "failed": self.failed,
            "complete": self.is_complete,
            "exit_code": self.exit_code,
            "sessions_found": self.found,
            "already_done": self.actions[PlannedAction.DONE],
            "counts": dict(self.results),
            "named": named,
            "audio_seconds": round(self.audio_s, 3),
            "gpu_seconds": round(self.gpu_s, 3),
            "gpu_seconds_unknown_of": self.gpu_unknown,
            "cost": None if self.cost is None else float(self.cost),
            "wall_seconds": round(self._wall_s, 3),
            "requests": dict(self.requests),
            "report_lost": self.report_lost,
        }

    def text(self) -> str:
        """Return the summary for people."""
        counts = self.results
        kinds = [kind for kind in _REMARKS if counts.get(kind)]
        kinds += sorted(kind for kind in counts if kind != DONE and kind not in _REMARKS)
        named = (named_lines(k, counts[k], self.named.get(k, ())) for k in kinds)
        lines = list(chain.from_iterable(named))
        if done := self.actions[PlannedAction.DONE]:
            lines.append(f"already done: {done:,}")
        if self.pending:
            unknown = f" (unknown for {self.gpu_unknown:,})" if self.gpu_unknown else ""
            cost = "" if self.cost is None else f", cost {self.cost:,}"
            gpu = f"{self.gpu_s:,.0f} GPU seconds{unknown}{cost}"
            wall = f"{clock_time(self._wall_s)} of wall time"
            lines.append(f"{span(self.audio_s)} of audio, {gpu}, {wall}")
        if self.requests:
            made = ", ".join(f"{count:,} {kind}" for kind, count in self.requests.items())
            lines.append(f"requests: {made}")
        if self.report_lost:
            lines.append(f"the report lacks {self.report_lost:,} of these sessions")
        head = f"{self.succeeded:,} succeeded, {self.failed:,} failed"
        if not self.is_complete:
            head = f"Not complete: {head}{'; the listing did not end' if self.is_listing else ''}"
        else:
            head = f"Complete: {head}" if self.pending else "No sessions pending transcription"
        return "\n  ".join([head, *lines])


TORN = " <- torn"
"""What the next run writes after a line that is not whole. No JSON ends like this."""


class ReportLost(EdgeError):
    """A line of the report could not be written: the disk is full, or gone."""


def line_of(record: Record, clock: Clock) -> str:
    """Return a record as one line of JSON, in ASCII: a name can do nothing to a terminal."""
    ended_at = clock.now().isoformat(timespec="seconds")
    return json.dumps(asdict(record) | {"ended_at": ended_at}) + "\n"


class ReportFile:
    """The file that is appended to; created for its owner alone, because messages name keys."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            status = os.fstat(self._fd)
            is_empty = not stat.S_ISREG(status.st_mode) or not status.st_size
            self._torn = not is_empty and os.pread(self._fd, 1, status.st_size - 1) != b"\n"
        except OSError as exc:
            text = f"{exc.strerror}: give a file that can be written"
            raise BadUsage(f"--report {visible(str(path))}: {text}") from exc

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, record: Record) -> None:
        """Append one line; `ReportLost` says that it is not there, or not whole."""
        line = line_of(record, self._clock).encode()
        data = f"{TORN}\n".encode() + line if self._torn else line
        try:
            written = os.write(self._fd, data)
        except OSError as exc:
            raise self._lost(exc.strerror or type(exc).__name__) from exc
        self._torn = written < len(data) and (self._torn or written > 0)
        if written < len(data):
            raise self._lost("no room for a whole line")

    def _lost(self, why: str) -> ReportLost:
        return ReportLost(f"the report {visible(str(self._path))} lacks sessions: {why}")


class _Line(BaseModel):
    session: str
    result: str


def failed_in(path: Path, recordings: RecordingPattern) -> tuple[Session, ...]:
    """Return the sessions whose last line says that there is something to try again.

    That is any result but ``done``, ``skipped``, ``not_merged`` and ``no_audio``. The job of a
    session that is ``in_flight`` is then followed. Raises `BadUsage` if there is no such file, or
    a line is not a session's record.
    """
    failed, shown = dict[Session, None](), visible(str(path))
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    seen = _Line.model_validate_json(line)
                    session = recordings.parse(seen.session)
                except (ValidationError, BadUsage):
                    if line.endswith(f"{TORN}\n".encode()) or not line.endswith(b"\n"):
                        continue
                    raise BadUsage(
                        f"--retry-failed {shown}: line {number} is not a session's record: give a "
                        "file that `edge-client batch --report` wrote"
                    ) from None
                failed.pop(session, None)
                if seen.result not in NO_FAILURE:
                    failed[session] = None
    except OSError as exc:
        text = f"{exc.strerror}: give the FILE of an earlier --report FILE"
        raise BadUsage(f"--retry-failed {shown}: {text}") from exc
    return tuple(failed)

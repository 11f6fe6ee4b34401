"""Counts a batch while it goes on. Memory holds what is open, never what is done.

Written by the batch's thread alone. A live table's thread reads at the same time and takes no
lock, so that neither can wait for the other: it reads single values, and copies of the dicts.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from edge_client.batch.values import OUT, Item, Need, Record
from edge_client.claim import Claim
from edge_client.clock import Clock
from edge_client.estimate import Estimate
from edge_client.follow import Glimpse
from edge_client.layout import Session
from edge_client.storage import ObjectInfo
from edge_client.verdict import Result

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
    glimpse: Glimpse = Glimpse("submitted")
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

    def show(self, session: Session, glimpse: Glimpse) -> None:
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

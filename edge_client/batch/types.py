"""The values that the parts of a batch hand to each other.

listing ─ ListedSession ─► plan ─ PlannedSession ─► engine ─ Record ─► progress, report
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from edge_client.jobs.claim import Claim, StoredClaim, Wanted
from edge_client.jobs.poll import PollInterval
from edge_client.jobs.retry_policy import Result
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

WAV_BYTES_PER_S = 32_000
"""16 kHz, 16 bits, mono: assumed until a recording's length is known."""
IN_FLIGHT = "in_flight"
"""The result of a session whose job goes on; `Result` has those of jobs that ended."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which sessions a batch runs.

    Attributes:
        sessions: These only; their jobs are submitted although an earlier one failed for good.
        since: Only recordings that were uploaded at that moment or later; aware.
        limit: At most so many sessions that need work; one at least.
        stale: A transcript that is older than its recording counts as none.
        force: Every session that has a recording is submitted.
        changed: Also those whose transcript may be of this recording (`Match.UNPROVEN`).
        verify: Every transcript is read.
    """

    sessions: tuple[Session, ...] = ()
    user: str | None = None
    since: datetime | None = None
    limit: int | None = None
    stale: bool = True
    force: bool = False
    changed: bool = False
    verify: bool = False


@dataclass(frozen=True)
class RunConfig:
    """How a batch is run.

    Attributes:
        queue_floor: So many of them may wait for a worker, however slow the pace is.
        max_gpu_s: No more is submitted before that many GPU seconds would be exceeded.
        chosen: What is forced, or paid for though it is unproven.
        relist_s: The listing begins anew after so long, while the batch works; None: never.
        watch: And for ever.
    """

    wanted: Wanted
    interval: Callable[[Claim], PollInterval]
    max_in_flight: int = 100
    queue_floor: int = 20
    max_gpu_s: float | None = None
    chosen: Filter = Filter()
    relist_s: float | None = None
    watch: bool = False


@dataclass(frozen=True, slots=True)
class ListedSession:
    """One session as LIST shows it; ``chunks`` is how many parts of a recording there are."""

    session: Session
    audio: ObjectInfo | None = None
    transcript: ObjectInfo | None = None
    claim: ObjectInfo | None = None
    chunks: int = 0

    @property
    def has_transcript(self) -> bool:
        """Whether there is one, and it is not empty."""
        return self.transcript is not None and self.transcript.size_bytes > 0

    @property
    def is_fresh(self) -> bool:
        """Whether the transcript is not older than the recording, whichever one it is of."""
        if self.audio is None or self.transcript is None:
            return False
        return self.has_transcript and self.transcript.modified_at >= self.audio.modified_at


class PlannedAction(StrEnum):
    """What a batch does with a session.

    `SUBMIT` and `FOLLOW` are work. The others are counted, and all but `DONE` are named at the end.
    """

    SUBMIT = "submit"
    FOLLOW = "follow"
    DONE = "done"
    NOT_MERGED = "not_merged"
    NO_AUDIO = "no_audio"
    FAILED_BEFORE = "failed_before"
    UNPROVEN = "unproven"
    REFUSED = "refused"

    @property
    def is_work(self) -> bool:
        """Whether a job is submitted or followed."""
        return self in (PlannedAction.SUBMIT, PlannedAction.FOLLOW)


_UNREPEATED = (PlannedAction.NOT_MERGED, PlannedAction.NO_AUDIO, PlannedAction.UNPROVEN)
NO_FAILURE = frozenset([Result.DONE, Result.SKIPPED, Result.UNPROVEN, *_UNREPEATED])
"""Results of a session that nothing is to be tried again with."""


@dataclass(frozen=True, slots=True)
class PlannedSession:
    """One session, and what a batch does with it.

    Attributes:
        why: A few words for people, such as ``new``.
        audio: As listed; None where there is none.
        held: The claim, where it was read; a submission replaces exactly this one.
        has_transcript: There may be an object in its place: one was listed, or a job was claimed.
    """

    session: Session
    action: PlannedAction
    why: str
    audio: ObjectInfo | None = None
    held: StoredClaim | None = None
    has_transcript: bool = False

    @property
    def claim(self) -> Claim | None:
        """What ``held`` says; None if it is no claim."""
        return None if self.held is None else self.held.claim

    @property
    def likely_s(self) -> float:
        """The recording's length as its size lets expect."""
        return 0.0 if self.audio is None else self.audio.size_bytes / WAV_BYTES_PER_S


@dataclass(frozen=True, slots=True)
class Record:
    """How a batch ended for a session: one line of the report.

    Attributes:
        result: A `Result`, a `PlannedAction` that is no work, or ``in_flight``: its job goes on.
        code: The worker's failure code, or how the last submission ended; None if done.
        submissions: How each submission ended, oldest first: ``done``, or why it was not.
        audio_s: The recording's length in seconds, where it is known.
        gpu_s: Seconds that its jobs ran in this batch, by RunPod, else by the transcript.
    """

    session: str
    result: str
    message: str
    code: str | None = None
    job_id: str | None = None
    submissions: tuple[str, ...] = ()
    audio_s: float | None = None
    gpu_s: float | None = None
    segments: int | None = None
    speakers: int | None = None
    language: str | None = None
    warnings: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """The message, with the code where there is one."""
        return f"{self.code}: {self.message}" if self.code else self.message

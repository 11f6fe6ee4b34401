"""What the parts of a batch hand to each other: frozen values, and the view's protocol.

scan ─ Found ─► triage ─ Item ─► engine ─ Record ─► view, report
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.poll import JobProgress
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

OUT = "out"
"""The result of a session whose job goes on; `Result` has those that are over."""


@dataclass(frozen=True, slots=True)
class Found:
    """One session as LIST shows it.

    Attributes:
        audio: ``audio.wav``.
        transcript: ``transcription.json``.
        claim: ``transcription.job.json``.
        chunks: How many ``chunk-….webm`` (or other) parts of the recording there are.
    """

    session: Session
    audio: ObjectInfo | None = None
    transcript: ObjectInfo | None = None
    claim: ObjectInfo | None = None
    chunks: int = 0


class Need(StrEnum):
    """What a session needs of a batch.

    `SUBMIT` and `FOLLOW` are work; the others are counted, and `NOT_MERGED`, `NO_AUDIO`,
    `FAILED_BEFORE` and `REFUSED` are named.
    """

    SUBMIT = "submit"
    FOLLOW = "follow"
    DONE = "done"
    NOT_MERGED = "not_merged"
    NO_AUDIO = "no_audio"
    FAILED_BEFORE = "failed_before"
    REFUSED = "refused"

    @property
    def is_work(self) -> bool:
        """Whether a job is submitted or followed."""
        return self in (Need.SUBMIT, Need.FOLLOW)


@dataclass(frozen=True, slots=True)
class Item:
    """One session, and what is to be done with it.

    Attributes:
        why: A few words for people: ``new``, ``the recording is newer than its transcript``.
        audio: As listed; None where there is none.
        held: The claim as it was read, where it was; a submission replaces exactly this one.
    """

    session: Session
    need: Need
    why: str
    audio: ObjectInfo | None = None
    held: StoredClaim | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """How a session came out of a batch: one line of the report.

    Attributes:
        session: Its prefix.
        result: A `verdict.Result`, a `Need` that is no work, or ``out``: its job goes on.
        message: One line for people.
        code: The worker's failure code, or how the last submission ended; None if done.
        submissions: How the session's submissions ended, oldest first.
        audio_s: The recording's length in seconds, where it is known.
        gpu_s: Seconds that RunPod says the last job ran, else its transcript's own figure.
        ended_at: ISO 8601, UTC.
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
    ended_at: str = ""


class BatchView(Protocol):
    """Shows a batch; called from one thread at a time."""

    def listed(self, item: Item) -> None:
        """Take what the listing says of one more session."""

    def listing_ended(self) -> None:
        """Know that there are no more sessions: totals are final."""

    def submitted(self, session: Session, claim: Claim) -> None:
        """Take a job that is out, newly submitted or found out."""

    def show(self, session: Session, glimpse: JobProgress) -> None:
        """Take what a poll saw."""

    def ended(self, record: Record) -> None:
        """Take a session's end."""

    def note(self, message: str) -> None:
        """Tell the user something that is neither."""

"""Turns a session's end, however it came, into the line of the report. Pure."""

from __future__ import annotations

from datetime import datetime

from edge_client.batch.values import OUT, Item, Record
from edge_client.claim import Claim
from edge_client.errors import EdgeError
from edge_client.layout import Session
from edge_client.pursuit import End
from edge_client.recovery import name_of
from edge_client.redaction import one_line
from edge_client.verdict import Result


def of_end(session: Session, end: End, now: datetime) -> Record:
    """Return the record of a session whose last submission ended."""
    outcome, claim, delivered = end.outcome, end.claim, end.outcome.delivered
    message = f"{outcome.message}; {outcome.warning}" if outcome.warning else outcome.message
    return Record(
        session=session.prefix,
        result=outcome.result.value,
        message=one_line(message),
        code=None if outcome.cause is None else name_of(outcome.cause),
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

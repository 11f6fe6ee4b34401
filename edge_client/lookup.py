"""Tells what is known of a session or a job, for `status` and `cancel`."""

from __future__ import annotations

import re
from typing import Any

from contract import JobStatus
from edge_client import claim as claims
from edge_client import transcripts
from edge_client.claim import Claim
from edge_client.edge import Edge
from edge_client.errors import ClaimConflict, SessionNotFound
from edge_client.follow import glimpse_of
from edge_client.layout import Session
from edge_client.standing import ask, check_endpoint
from edge_client.verdict import judge
from edge_client.views import words

_RUNPOD_JOB = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\w{2}")
_ANY_JOB = re.compile(r"[A-Za-z0-9-]{1,80}")


def describe(edge: Edge, what: str) -> tuple[dict[str, Any], str]:
    """Describe a session or a job, as facts and as text.

    Raises:
        SessionNotFound: It is neither.
    """
    session = _session(edge, what)
    if session is not None:
        return _of_session(edge, session)
    status = ask(edge, what)
    if status is None:
        raise SessionNotFound(
            f"{what}: no session has this name, and RunPod has no such job (it forgets jobs "
            "30 minutes after their end)"
        )
    return _job(status)


def job_to_cancel(edge: Edge, what: str) -> str:
    """Return the id of the job that ``what`` names.

    Raises:
        ClaimConflict: The session has no job that could be cancelled.
    """
    session = _session(edge, what)
    if session is None:
        return what
    held = claims.read(edge.bucket, session)
    if held is None or held.claim is None:
        raise ClaimConflict(f"nothing was submitted for {session}: there is nothing to cancel")
    check_endpoint(edge, session, held.claim)
    if held.claim.job_id is None:
        raise ClaimConflict(
            f"the job of {session} is not known: its submission's answer was lost; it ends by "
            f"itself before {held.claim.expires_at:%Y-%m-%d %H:%M} UTC"
        )
    return held.claim.job_id


def _session(edge: Edge, what: str) -> Session | None:
    """Tell sessions from jobs; None for a job.

    A bare word that no session has is taken for a job if it can be one.
    """
    if _RUNPOD_JOB.fullmatch(what):
        return None
    try:
        return edge.session(what)
    except SessionNotFound:
        if _ANY_JOB.fullmatch(what):
            return None
        raise


def _job(status: JobStatus) -> tuple[dict[str, Any], str]:
    seen = glimpse_of(status)
    facts = {
        "job_id": status.id,
        "job_state": status.status.value.lower(),
        "stage": seen.stage,
        "percent": seen.percent,
    }
    text = f"job {status.id}: {words(seen)}"
    if status.status.is_final:
        message = getattr(judge(status), "message", None)
        facts["message"] = message
        text += f": {message}" if message else ""
    return facts, text


def _of_session(edge: Edge, session: Session) -> tuple[dict[str, Any], str]:
    audio = edge.bucket.head(session.audio_key)
    held = claims.read(edge.bucket, session)
    claim = held.claim if held is not None else None
    done = transcripts.find_done(edge.bucket, session, audio, claim)
    job, job_text = _claimed(edge, session, claim)
    facts: dict[str, Any] = {
        "session": session.prefix,
        "audio_bytes": audio.size_bytes if audio is not None else None,
        "done": done is not None,
        **job,
    }
    audio_text = "no recording" if audio is None else f"{audio.size_bytes:,} bytes of recording"
    done_text = "done" if done is not None else "no transcript of this recording yet"
    return facts, f"{session}: {done_text}\n  {audio_text}\n  {job_text}"


def _claimed(edge: Edge, session: Session, claim: Claim | None) -> tuple[dict[str, Any], str]:
    if claim is None:
        return {"job_id": None, "job_state": None}, "no job was submitted"
    facts: dict[str, Any] = {
        "job_id": claim.job_id,
        "submitted_at": claim.submitted_at.isoformat(),
        "submitted_by": claim.submitted_by,
        "expires_at": claim.expires_at.isoformat(),
        "submission": len(claim.earlier) + 1,
        "ended": claim.ended,
    }
    if claim.ended is not None:
        return facts | {"job_state": "ended"}, f"job {claim.job_id} ended: {claim.ended}"
    if claim.job_id is None:
        text = f"submitted at {claim.submitted_at:%Y-%m-%d %H:%M} UTC, answer not known"
        return facts | {"job_state": "unknown"}, text
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id)
    if status is None:
        return facts | {"job_state": "forgotten"}, f"job {claim.job_id}: forgotten by RunPod"
    job, text = _job(status)
    return facts | job, text

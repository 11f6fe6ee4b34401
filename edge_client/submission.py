"""Submits one session, unless it is done or has a job out; submits again what ended.

What is decided here is whether to submit at all; `edge_client.posting` does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import JobInput
from edge_client import claim as claims
from edge_client.claim import Claim, Wanted
from edge_client.errors import AudioNotFound, ClaimConflict
from edge_client.posting import Task, post
from edge_client.standing import State, Submission, ask, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_client.edge import Edge
    from edge_client.layout import Session
    from edge_client.storage import ObjectInfo


@dataclass(frozen=True)
class Order:
    """What the user wants of a submission.

    Attributes:
        wishes: A `JobInput` whose URLs are placeholders.
        webhook: Where RunPod posts the finished job.
        force: Submit although the session is done or has a job out.
        say: Tells the user something, one line at a time.
        progress_file: The worker writes how far it is into ``transcription.progress.json``, too.
        follow: The caller follows the job (see `standing`).
    """

    wishes: JobInput
    webhook: str | None
    force: bool
    say: Callable[[str], None]
    progress_file: bool = False
    follow: bool = False

    def wanted(self) -> Wanted:
        """Return what of it is kept in the claim."""
        wishes = self.wishes.model_dump(
            mode="json", exclude_defaults=True, exclude={"audio_url", "result_url", "progress_url"}
        )
        return Wanted(wishes=wishes, webhook=self.webhook, progress_file=self.progress_file)


def submit(edge: Edge, session: Session, order: Order) -> Submission:
    """Submit a session unless it is done or its job is out.

    Raises:
        AudioNotFound: No ``audio.wav``, or an empty one.
        RecordingTooLong: No URL lives long enough.
        ClaimConflict: Another edge box was faster, or the claim forbids it.
        AnswerLost: The job may be out; the claim stays.
    """
    audio = recorded(edge, session)
    held = claims.read(edge.bucket, session)
    if not order.force:
        found = standing(edge, session, audio, held, order.say, follow=order.follow)
        if found is not None:
            return found
    elif held is not None and held.claim is not None:
        call_back(edge, held.claim, order.say)
    claim = post(edge, session, audio, held, Task(order.wanted(), order.say))
    return Submission(State.SUBMITTED, session, claim)


def resubmit(
    edge: Edge,
    session: Session,
    claim: Claim,
    ended: str,
    *,
    longer: bool,
    known_s: float,
    say: Callable[[str], None],
) -> Claim:
    """Submit a session again, in place of a job that ended.

    Args:
        edge: Settings and services.
        session: Which.
        claim: Of the job that ended.
        ended: How (`recovery.name_of`).
        longer: Give the new job more time than the old one had.
        known_s: Seconds that the worker asked for, 0 if it did not.
        say: Told of refusals and pauses.

    Raises:
        ClaimConflict: Somebody else went on from this claim, or did something else.
        AudioNotFound, RecordingTooLong, AnswerLost: As `submit`.
    """
    audio = recorded(edge, session)
    held = claims.read(edge.bucket, session)
    there = held.claim if held is not None else None
    if there is not None and there.was_refused and claim.request_id in there.request_ids:
        earlier = there.earlier  # a try of ours that RunPod did not take: it counts for nothing
    elif there is not None and there.request_id == claim.request_id:
        earlier = claim.followed_by(ended)
    else:
        raise ClaimConflict(f"another edge box took {session} over")
    known_s = max(known_s, claim.execution_timeout_s if longer and not known_s else 0)
    earlier = earlier if claim.audio_etag == audio.etag else ()
    return post(edge, session, audio, held, Task(claim.wanted, say, earlier, known_s))


def recorded(edge: Edge, session: Session) -> ObjectInfo:
    """Return the session's recording.

    Raises:
        AudioNotFound: There is none, or it is empty.
    """
    audio = edge.bucket.head(session.audio_key)
    if audio is None:
        raise AudioNotFound(
            f"no recording at s3://{edge.bucket.name}/{session.audio_key}: check the session, "
            "or wait until it is uploaded"
        )
    if audio.size_bytes == 0:
        raise AudioNotFound(f"the recording {session.audio_key} is empty: upload it again")
    return audio


def call_back(edge: Edge, claim: Claim, say: Callable[[str], None]) -> None:
    """Cancel the job that another is going to replace, so that two do not write one transcript.

    Args:
        edge: Settings and services.
        claim: Of the job.
        say: Told what is done about it.
    """
    if claim.job_id is None or not claim.is_alive(edge.clock.now()):
        return
    if claim.endpoint_id != edge.settings.endpoint_id:
        say(f"job {claim.job_id} on endpoint {claim.endpoint_id} is left alone")
        return
    status = ask(edge, claim.job_id)
    if status is not None and not status.status.is_final:
        edge.api.cancel(claim.job_id)
        say(f"cancelled job {claim.job_id}")

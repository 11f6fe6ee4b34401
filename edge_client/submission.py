"""Submits one session: claim in S3, then one ``POST /run``.

The order is what makes a crash harmless. Everything that can fail without consequence comes
first (audio, length, signatures), then the claim, then the submission at once, then the job's id
into the claim. An answer that is lost leaves the claim without an id: nobody submits again
while its ttl runs.
"""

from __future__ import annotations

import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import JobInput, JobStatus, RunRequest
from edge_client import claim as claims
from edge_client import lifetimes, recording, signing
from edge_client.claim import Claim, Held
from edge_client.errors import AnswerLost, AudioNotFound, EdgeError
from edge_client.standing import State, Submission, ask, standing
from riff import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_client.edge import Edge
    from edge_client.layout import Session
    from edge_client.lifetimes import Lifetimes
    from edge_client.storage import ObjectInfo

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """What the user wants of a submission.

    Attributes:
        wishes: A `JobInput` whose URLs are placeholders.
        webhook: Where RunPod posts the finished job.
        force: Submit although the session is done or has a job out.
        say: Tells the user something, one line at a time.
    """

    wishes: JobInput
    webhook: str | None
    force: bool
    say: Callable[[str], None]


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
        found = standing(edge, session, audio, held, order.say)
        if found is not None:
            return found
    elif held is not None and held.claim is not None:
        _call_back(edge, held.claim, order)
    return _submit_anew(edge, session, audio, held, order)


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


def _call_back(edge: Edge, claim: Claim, order: Order) -> None:
    """Cancel the job that --force replaces, so that two do not write one transcript."""
    if claim.job_id is None or not claim.is_alive(edge.clock.now()):
        return
    if claim.endpoint_id != edge.settings.endpoint_id:
        order.say(f"job {claim.job_id} on endpoint {claim.endpoint_id} is left alone")
        return
    status = ask(edge, claim.job_id)
    if status is not None and not status.status.is_final:
        edge.api.cancel(claim.job_id)
        order.say(f"cancelled job {claim.job_id}")


def _submit_anew(
    edge: Edge, session: Session, audio: ObjectInfo, held: Held | None, order: Order
) -> Submission:
    length = measure(edge, audio)
    plan = lifetimes.plan(length.duration_s, edge.settings.url_expiry_s)
    claim = Claim.of(
        session,
        audio,
        request_id=uuid.uuid4().hex,
        endpoint_id=edge.api.endpoint_id,
        duration_s=round(length.duration_s, 3),
        ttl_s=plan.ttl_s,
        now=edge.clock.now(),
    )
    request = _request(edge, session, claim, plan, order)
    held = claims.store(edge.bucket, session, claim, held)
    job = _post(edge, session, claim, held, request)
    return Submission(State.SUBMITTED, session, _record(edge, session, held, claim, job, order))


def measure(edge: Edge, audio: ObjectInfo) -> recording.Length:
    """Return a recording's length, from its first 64 KiB."""
    head = edge.bucket.read_head(audio.key, HEAD_BYTES)
    return recording.length_of(head, audio.size_bytes)


def _request(
    edge: Edge, session: Session, claim: Claim, plan: Lifetimes, order: Order
) -> RunRequest:
    urls = signing.sign(edge.connection, session, plan.url_expiry_s)
    warning = signing.early_end(edge.connection, urls.expires_at)
    if warning is not None:
        order.say(warning)
    wishes = order.wishes.model_copy(
        update={
            "audio_url": urls.audio_url,
            "result_url": urls.result_url,
            "request_id": claim.request_id,
        }
    )
    return RunRequest(input=wishes, policy=plan.policy(), webhook=order.webhook)


def _post(edge: Edge, session: Session, claim: Claim, held: Held, request: RunRequest) -> JobStatus:
    try:
        return edge.api.run(request)
    except AnswerLost as exc:
        raise AnswerLost(
            f"{exc}: the job may be out, so it is not submitted again: "
            f"`edge-client wait {session.quoted}` watches for its transcript"
        ) from exc
    except EdgeError:
        claims.store(edge.bucket, session, claim.released(edge.clock.now()), held)
        raise


def _record(
    edge: Edge, session: Session, held: Held, claim: Claim, job: JobStatus, order: Order
) -> Claim:
    """Write the job's id into the claim; a failure there must not lose the id."""
    claim = claim.with_job(job.id)
    try:
        claims.store(edge.bucket, session, claim, held)
    except EdgeError as exc:
        order.say(f"job {job.id} is out, but its claim could not be updated: {exc}")
    log.info("submitted job %s", job.id)
    return claim

"""One submission: claim in S3, then ``POST /run``, then the job's id into the claim.

The order is what makes a crash harmless. Everything that can fail without consequence comes
first (length, signatures), then the claim, then the submission at once. A claim without an id
says that a POST may be under way or its answer lost: nobody posts again before
`edge_client.lost_answer` has looked. What RunPod certainly refused frees the claim and, where
time can help (no connection, 429), is tried again after a pause.
"""

from __future__ import annotations

import itertools
import json
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from contract import JobInput, RunRequest
from edge_client import claim as claims
from edge_client import lifetimes, recording, signing
from edge_client.claim import Attempt, Claim, Held, Wanted
from edge_client.errors import (
    AnswerLost,
    AudioNotFound,
    EdgeError,
    RateLimited,
    Unreachable,
)
from edge_client.webhook.url import fill
from riff import HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_client.edge import Edge
    from edge_client.layout import Session
    from edge_client.lifetimes import Lifetimes
    from edge_client.storage import ObjectInfo

log = logging.getLogger(__name__)
REQUEST_BUDGET_BYTES = 2048
"""What a request needs with long-lived keys, three URLs and room to spare."""


@dataclass(frozen=True)
class Task:
    """What is submitted.

    Attributes:
        wanted: The user's wishes.
        say: Tells the user something, one line at a time.
        earlier: Submissions that this one follows.
        known_s: Seconds that the job is known to need, 0 if nothing is known.
    """

    wanted: Wanted
    say: Callable[[str], None]
    earlier: tuple[Attempt, ...] = ()
    known_s: float = 0.0


def post(edge: Edge, session: Session, audio: ObjectInfo, held: Held | None, task: Task) -> Claim:
    """Claim a session and submit its job.

    Args:
        edge: Settings and services.
        session: Which.
        audio: Its recording; what is there when its length is read is what is claimed.
        held: The claim that is replaced, as it was read.
        task: What is submitted.

    Raises:
        AudioNotFound: The recording is gone.
        RecordingTooLong: No URL lives long enough.
        KeysEndTooSoon: Temporary keys do not.
        ClaimConflict: Another edge box was faster.
        AnswerLost: The job may be out; the claim stays.
        Unreachable: RunPod cannot be reached, or wants fewer requests, after all tries.
        RunpodError: RunPod refuses the job.
    """
    length, audio = measured(edge, audio.key)
    for tries in itertools.count(1):
        life = _lifetimes(edge, length, task)
        claim = _claim(edge, session, audio, length, life, task)
        request = _request(edge, session, claim, life, task)
        held = claims.store(edge.bucket, session, claim, held)
        try:
            return _send(edge, session, held, claim, request, task)
        except (Unreachable, RateLimited) as exc:
            held = _release(edge, session, claim, held)
            _pause(edge, exc, tries, task)
        except AnswerLost as exc:
            raise AnswerLost(
                f"{exc}: the job may be out, so it is not submitted again blindly: "
                f"`edge-client wait {session.quoted}` looks for it and goes on"
            ) from exc
        except EdgeError:
            _release(edge, session, claim, held)
            raise
    raise AssertionError("count() never ends")


def measured(edge: Edge, audio_key: str) -> tuple[recording.Length, ObjectInfo]:
    """Return a recording's length, from its first 64 KiB, and which recording that is.

    Raises:
        AudioNotFound: It is gone.
    """
    found = edge.bucket.read_head(audio_key, HEAD_BYTES)
    if found is None:
        raise AudioNotFound(f"no recording at s3://{edge.bucket.name}/{audio_key} any more")
    head, audio = found
    return recording.length_of(head, audio.size_bytes), audio


def _lifetimes(edge: Edge, length: recording.Length, task: Task) -> Lifetimes:
    """Plan the job's lifetimes, and say so where temporary keys shorten them."""
    now = edge.clock.now()
    life = lifetimes.plan(length.duration_s, edge.settings.url_expiry_s, task.known_s)
    fitting = signing.within_keys(edge.connection, life, now)
    warning = signing.early_end(edge.connection, life.urls_end(now))
    if warning is not None:
        task.say(warning)
    return fitting


def _claim(
    edge: Edge,
    session: Session,
    audio: ObjectInfo,
    length: recording.Length,
    life: Lifetimes,
    task: Task,
) -> Claim:
    return Claim.of(
        session,
        audio,
        request_id=uuid.uuid4().hex,
        endpoint_id=edge.api.endpoint_id,
        duration_s=round(length.duration_s, 3),
        life=life,
        now=edge.clock.now(),
        wanted=task.wanted,
        earlier=task.earlier,
    )


def _request(edge: Edge, session: Session, claim: Claim, life: Lifetimes, task: Task) -> RunRequest:
    urls = signing.sign(
        edge.connection, session, life.url_expiry_s, progress=task.wanted.progress_file
    )
    wishes = JobInput(
        **task.wanted.wishes,
        audio_url=urls.audio_url,
        result_url=urls.result_url,
        progress_url=urls.progress_url,
        request_id=claim.request_id,
    )
    webhook = task.wanted.webhook
    called = fill(webhook, session) if webhook is not None else None
    request = RunRequest(input=wishes, policy=life.policy(), webhook=called)
    size_bytes = len(json.dumps(request.to_wire()))
    if size_bytes >= REQUEST_BUDGET_BYTES:
        task.say(
            f"the request is {size_bytes:,} bytes, over our 2 KB: a temporary key's session token "
            "is in every URL, and prompts count too; RunPod takes up to 10 MB, so it is sent"
        )
    return request


def _send(
    edge: Edge, session: Session, held: Held, claim: Claim, request: RunRequest, task: Task
) -> Claim:
    """Post, and write the job's id into the claim; a failure there must not lose the id."""
    claim = claim.with_job(edge.api.run(request).id)
    try:
        claims.store(edge.bucket, session, claim, held)
    except EdgeError as exc:
        task.say(f"job {claim.job_id} is out, but its claim could not be updated: {exc}")
    log.info("submitted job %s", claim.job_id)
    return claim


def _release(edge: Edge, session: Session, claim: Claim, held: Held) -> Held:
    return claims.store(edge.bucket, session, claim.released(edge.clock.now()), held)


def _pause(edge: Edge, exc: Unreachable | RateLimited, tries: int, task: Task) -> None:
    """Wait before the next try, or give up with ``exc``."""
    limits = edge.limits
    if tries >= limits.attempts:
        raise exc
    asked_s = exc.retry_after_s if isinstance(exc, RateLimited) else None
    pause_s = max(limits.pause_s(tries - 1), asked_s or 0.0)
    task.say(f"{exc}; try {tries + 1} of {limits.attempts} in {pause_s:.0f} s")
    edge.clock.sleep(pause_s)

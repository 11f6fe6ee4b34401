"""Faults that the client once had: each replaces the functions that mended it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from bucketscribe_contract import JobStatus
from edge_client.batch.types import ListedSession
from edge_client.jobs import claim as claims
from edge_client.jobs import outcome
from edge_client.jobs.claim import Claim, StoredClaim
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.reconcile import Reconciler
from edge_client.jobs.retry_policy import Ending, NextStep, StepKind, next_step
from edge_client.jobs.submit import JobSubmission
from edge_client.jobs.transcript import Match, StoredTranscript, match
from edge_client.services.s3 import Bucket, ObjectInfo
from edge_client.session import Session

JOBS = "edge_client.jobs"


@dataclass(frozen=True)
class Defect:
    """What is replaced, by what: the name of an attribute of a module or class to a function."""

    name: str
    replaced: dict[str, Any]

    @contextmanager
    def back(self) -> Iterator[None]:
        """Have it again."""
        with ExitStack() as stack:
            for name, function in self.replaced.items():
                stack.enter_context(patch(name, function))
            yield


def _by_time(
    audio: ObjectInfo | None, claim: Claim | None, stored: StoredTranscript | None
) -> Match:
    if stored is None or audio is None:
        return Match.ABSENT
    return Match.CURRENT if stored.modified_at >= audio.modified_at else Match.OUTDATED


def _without_condition(
    bucket: Bucket, session: Session, claim: Claim, over: StoredClaim | None
) -> StoredClaim:
    return StoredClaim(claim, bucket.write(session.claim_key, claim.model_dump_json().encode()))


_resolve, _next_step, _make = outcome.resolve_outcome, next_step, JobSubmission.make
_is_open = Claim.is_open


def _echo_believed(
    bucket: Bucket, session: Session, claim: Claim, status: JobStatus | None
) -> Outcome:
    if status is not None and isinstance(status.output, dict):
        echoed = {**status.output, "request_id": claim.request_id}
        status = status.model_copy(update={"output": echoed})
    return _resolve(bucket, session, claim, status)


def _as_brought(
    audio: ObjectInfo | None, claim: Claim | None, stored: StoredTranscript | None
) -> Match:
    """Believe what an answer brings."""
    is_brought = stored is not None and not stored.etag
    return Match.CURRENT if is_brought else match(audio, claim, stored)


def _again_always(cause: Any, earlier: Any, limits: Any) -> NextStep:
    step = _next_step(cause, (), limits)
    return NextStep(StepKind.SUBMIT) if step.kind is StepKind.REPORT else step


def _posted_first(self: JobSubmission) -> StoredClaim:
    """Post before the claim is written, as `submit` never did."""
    with patch.object(claims, "store", lambda bucket, session, claim, over: StoredClaim(claim, "")):
        made: Any = _make(self)
    return claims.store(self.edge.bucket, self.session, made.claim, self.order.held)


def _alone(self: Claim, ended: str) -> tuple[Any, ...]:
    return ()


def _is_suspect(listed: ListedSession, audio: ObjectInfo) -> bool:
    """Believe any claim that was written behind the transcript, as the listing once did."""
    claim, transcript = listed.claim, listed.transcript
    if claim is None or transcript is None:
        return False
    return max(audio.modified_at, transcript.modified_at) > claim.modified_at


def _is_lost_at_once(self: Reconciler, claim: Claim, interval: Any) -> Any:
    """Take a lost answer for a submission that was not made."""
    seen = _resolve(self._edge.bucket, self._session, claim, None)
    return self._answer(claim, replace(seen, reason=Ending.UNANSWERED))


DEFECTS = (
    Defect(
        "done is decided by time alone",
        {f"{JOBS}.{name}.match": _by_time for name in ("outcome", "reconcile")}
        | {"edge_client.batch.plan.match": _by_time},
    ),
    Defect(
        "a 404 is believed at once", {f"{JOBS}.reconcile.Reconciler._is_gone": lambda self: True}
    ),
    Defect("each submission counts as the first", {f"{JOBS}.claim.Claim.followed_by": _alone}),
    Defect(
        "the count does not limit",
        {
            f"{JOBS}.submit.earlier_submissions": lambda o, a: (),
            f"{JOBS}.reconcile.next_step": _again_always,
        },
    ),
    Defect(
        "the claim is written after the POST", {f"{JOBS}.submit.JobSubmission.make": _posted_first}
    ),
    Defect("the PUT has no condition", {"edge_client.services.presign.only_over": lambda e, s: {}}),
    Defect("the claim has no condition", {f"{JOBS}.claim.store": _without_condition}),
    Defect(
        "what is echoed is not compared",
        {f"{JOBS}.reconcile.resolve_outcome": _echo_believed, f"{JOBS}.outcome.match": _as_brought},
    ),
    Defect(
        "the listing believes an open claim", {"edge_client.batch.plan._is_suspect": _is_suspect}
    ),
    Defect(
        "a replaced job is not cancelled",
        {f"{JOBS}.reconcile.cancel_replaced_job": lambda edge, claim, say: None},
    ),
    Defect(
        "every error proves that nothing was sent",
        {"edge_client.services.runpod._was_not_sent": lambda exc: True},
    ),
    Defect(
        "a lost answer is submitted again at once",
        {f"{JOBS}.reconcile.Reconciler._search": _is_lost_at_once},
    ),
)

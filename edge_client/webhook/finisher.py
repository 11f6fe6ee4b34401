"""Finishes one session that RunPod called about, as a poller would: /status and S3 decide."""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass

from bucketscribe_contract.redact import one_line
from edge_client.errors import ClaimConflict, JobNotFound, RateLimited, Unreachable
from edge_client.jobs import claim as claims
from edge_client.jobs.poll import LogView
from edge_client.jobs.reconcile import End, Reconciler
from edge_client.jobs.retry_policy import Result
from edge_client.services.edge import Edge
from edge_client.session import Session

log = logging.getLogger(__name__)
LOOKS = 4
"""So often is a job looked at that does not seem to have ended: three looks prove that RunPod has
no such job, and a status that lags behind its callback catches up in the 4 s that they take."""


@dataclass
class _Visit:
    """What is known of a session between two calls.

    Attributes:
        reconciler: None until its claim could be read.
        request_id: The submission that RunPod called about.
        looks: How often its job did not seem to have ended.
        failures: How often a service did not answer.
    """

    reconciler: Reconciler | None = None
    request_id: str = ""
    looks: int = 0
    failures: int = 0


def adopt(edge: Edge, session: Session, job_id: str) -> None:
    """Put the job that a callback names into a claim that has none, if RunPod proves it to be its.

    The submission's answer was lost. Anybody may have called: the job counts only if its output
    echoes the claim's ``request_id``.
    """
    held = claims.read(edge.bucket, session)
    if held is None or held.claim is None or held.claim.job_id is not None:
        return
    with suppress(JobNotFound, ClaimConflict):
        if edge.api.status(job_id).request_id == held.claim.request_id:
            claim = held.claim.model_copy(update={"job_id": job_id})
            claims.store(edge.bucket, session, claim, held)


class Finisher:
    """Brings sessions on, a `Reconciler` step a call: no thread sleeps through a pause.

    Attributes:
        hints: The jobs that calls named; the receiver fills it in.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.hints: dict[Session, str] = {}
        self._visits: dict[Session, _Visit] = {}

    def finish(self, session: Session) -> float | None:
        """Resolve the session's job if it ended, and do what the retry policy says.

        Called about anything: twice, late, for a session that is done, that nobody submitted,
        that does not exist, or whose job still runs. Not called twice at a time for one session.

        Returns:
            Seconds after which to call it again, None if there is nothing more to do here.

        Raises:
            EdgeError: It cannot be finished from here.
        """
        visit = self._visits.pop(session, None) or _Visit()
        try:
            if hint := self.hints.get(session):
                adopt(self._edge, session, hint)
                self.hints.pop(session, None)
            pause_s = self._bring_on(session, visit)
        except (Unreachable, RateLimited) as exc:
            visit.failures += 1
            retry = self._edge.settings.retry
            if visit.failures >= retry.attempts:
                raise
            pause_s = retry.pause_s(visit.failures - 1)
            log.info("%s: %s; trying again in %.0f s", named(session), exc, pause_s)
        if pause_s is not None:
            self._visits[session] = visit
        return pause_s

    def _bring_on(self, session: Session, visit: _Visit) -> float | None:
        if visit.reconciler is None:
            claim = claims.current(self._edge.bucket, session)
            if claim is None:
                log.warning("%s: nothing was submitted, the call is ignored", named(session))
                return None
            if not claim.is_alive(self._edge.clock.now()):
                log.info("%s: its job expired, the call is ignored", named(session))
                return None
            visit.reconciler = Reconciler(self._edge, session, claim, LogView(log, session))
            visit.request_id = claim.request_id
        return self._step(session, visit, visit.reconciler)

    def _step(self, session: Session, visit: _Visit, reconciler: Reconciler) -> float | None:
        seen = reconciler.step()
        if isinstance(seen, End):
            level = logging.INFO if seen.outcome.result is Result.DONE else logging.WARNING
            log.log(level, "%s: %s: %s", named(session), seen.outcome.result, seen.outcome.text)
            return None
        if reconciler.claim.request_id != visit.request_id:
            log.info("%s: job %s replaced it", named(session), reconciler.claim.job_id)
            return None
        if not reconciler.plans_submission:
            visit.looks += 1
            if visit.looks >= LOOKS:
                log.info("%s: its job has not ended, it is left alone", named(session))
                return None
        return seen


def named(session: Session) -> str:
    """Return a session for a log line: whoever calls the receiver chooses the name."""
    return one_line(session.prefix)

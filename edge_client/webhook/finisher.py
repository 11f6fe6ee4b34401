"""Finishes one session that RunPod called about, as a poller would: /status and S3 decide."""

from __future__ import annotations

import logging

from bucketscribe_contract.redact import one_line
from edge_client.errors import EdgeError
from edge_client.jobs.poll import log_view
from edge_client.jobs.reconcile import Done, Reconciler
from edge_client.jobs.retry_policy import Result
from edge_client.services.edge import Edge
from edge_client.session import Session

log = logging.getLogger(__name__)
LOOKS = 4
"""So often is a job looked at that does not seem to have ended: a status that lags behind its
callback catches up in the 4 s that they take."""


class Finisher:
    """Brings sessions on, a `Reconciler` step a call: no thread sleeps through a pause."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._visits: dict[Session, tuple[Reconciler, int]] = {}

    def finish(self, session: Session) -> float | None:
        """Resolve the session's job if it ended, and do what the retry policy says.

        Called about anything: twice, late, for a session that is done, that nobody submitted,
        that does not exist, or whose job still runs. Not called twice at a time for one session.

        Returns:
            Seconds after which to call it again, None if there is nothing more to do here.
        """
        name = named(session)
        begun = self._visits.pop(session, None)
        reconciler, looks = begun or (Reconciler(self._edge, session, log_view(log, session)), 0)
        before = reconciler.claim
        try:
            seen = reconciler.step()
        except EdgeError as exc:
            log.warning("%s: %s", name, exc)
            return None
        claim = reconciler.claim
        if isinstance(seen, Done):
            level = logging.INFO if seen.outcome.result is Result.DONE else logging.WARNING
            log.log(level, "%s: %s: %s", name, seen.outcome.result, seen.outcome.text)
            return None
        if before is not None and claim is not None and before.request_id != claim.request_id:
            log.info("%s: job %s replaced it", name, claim.job_id)
            return None
        looks += not reconciler.plans_submission and not reconciler.is_waiting
        if looks >= LOOKS:
            log.info("%s: its job has not ended, it is left alone", name)
            return None
        self._visits[session] = reconciler, looks
        return seen.seconds


def named(session: Session) -> str:
    """Return a session for a log line: whoever calls the receiver chooses the name."""
    return one_line(session.prefix)

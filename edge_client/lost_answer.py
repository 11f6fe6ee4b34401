"""Looks for a submission whose answer was lost, or never read.

RunPod finds no job by a key of ours, so three things are looked at: the claim (the box that
posted may have written the job's id by now), S3 (a transcript of this request), and the
endpoint's ``/health``. Only an endpoint without a job in its queue or at work, for longer than
any POST can still be on its way, proves that the submission is not there: it never was, or it
ended without a transcript. Either way submitting again pays for nothing twice. See
``docs/adr/0005-no-blind-second-submission.md``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edge_client import claim as claims
from edge_client import transcripts
from edge_client.errors import RunpodError, Unreachable

if TYPE_CHECKING:
    from edge_client.claim import Claim
    from edge_client.clock import Clock
    from edge_client.edge import Edge
    from edge_client.layout import Session
    from edge_client.runpod_api import RunpodApi
    from edge_client.transcripts import Delivered

LEAST_BETWEEN_LOOKS_S = 0.5


@dataclass(frozen=True)
class Sighting:
    """What was found.

    Attributes:
        delivered: The transcript.
        claim: The claim, which names a job or another submission by now.
    """

    delivered: Delivered | None = None
    claim: Claim | None = None


class Silence:
    """Since when an endpoint has had no job, for all who search: one look serves them together.

    Args:
        api: The endpoint.
        clock: Real, or a test's.
    """

    def __init__(self, api: RunpodApi, clock: Clock) -> None:
        self._api, self._clock = api, clock
        self._turn = threading.Lock()
        self._since: float | None = None
        self._looked_at: float | None = None

    def since(self) -> float | None:
        """Return the monotonic second of the first of an unbroken row of quiet looks.

        Returns:
            None if the endpoint is not quiet, or does not say.
        """
        with self._turn:
            now = self._clock.monotonic()
            if self._looked_at is None or now - self._looked_at >= LEAST_BETWEEN_LOOKS_S:
                self._looked_at = now
                quiet = self._is_quiet()
                self._since = None if not quiet else now if self._since is None else self._since
            return self._since

    def _is_quiet(self) -> bool:
        try:
            return is_quiet(self._api.health())
        except (Unreachable, RunpodError):
            return False


class Search:
    """One look, to be repeated.

    Args:
        edge: Settings and services.
        session: Whose submission.
        claim: Its claim, without a job's id.
    """

    def __init__(self, edge: Edge, session: Session, claim: Claim) -> None:
        self._edge, self._session, self._claim = edge, session, claim
        self._began = edge.clock.monotonic()

    def __call__(self) -> Sighting | None:
        """Return what is found, None if nothing is known yet."""
        quiet_s = self._quiet_for_s()  # before S3: a job that ends in between has stored by then
        held = claims.read(self._edge.bucket, self._session)
        if held is not None and held.claim is not None and held.claim != self._claim:
            return Sighting(claim=held.claim)
        found = transcripts.find_of_job(self._edge.bucket, self._session, self._claim)
        if found is not None:
            return Sighting(delivered=found)
        if quiet_s is not None and quiet_s >= self._edge.settings.lost_answer_s:
            return Sighting()
        return None

    def _quiet_for_s(self) -> float | None:
        """Return for how long the endpoint has been quiet, counted from this search's beginning.

        What was quiet before says nothing: the POST that is searched for may be under way.
        """
        since = self._edge.silence.since()
        return None if since is None else self._edge.clock.monotonic() - max(since, self._began)


def is_quiet(health: Mapping[str, Any]) -> bool:
    """Tell whether an endpoint certainly has no job: every count is there, and is zero."""
    jobs, workers = health.get("jobs"), health.get("workers")
    if not isinstance(jobs, Mapping) or not isinstance(workers, Mapping):
        return False
    counts = (jobs.get("inQueue"), jobs.get("inProgress"), workers.get("running"))
    return all(count == 0 for count in counts)

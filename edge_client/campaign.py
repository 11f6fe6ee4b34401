"""Sees one session through, sleeping in between: `edge_client.pursuit` with a clock.

Takes the claim of a job; returns how the last submission ended.
"""

from __future__ import annotations

from edge_client.claim import Claim
from edge_client.clock import Deadline
from edge_client.edge import Edge
from edge_client.errors import WaitTimedOut
from edge_client.follow import View
from edge_client.layout import Session
from edge_client.pursuit import End, Pursuit


class Campaign:
    """The submissions of one session, until there is a transcript or nothing more to do.

    Args:
        edge: Settings and services.
        session: Which.
        view: Shows progress, and what is done.
        deadline: How long to wait in all.
    """

    def __init__(self, edge: Edge, session: Session, view: View, deadline: Deadline) -> None:
        self._edge, self._session, self._view, self._deadline = edge, session, view, deadline

    def run(self, claim: Claim) -> End:
        """Follow the claim's job, and those that take its place.

        Raises:
            WaitTimedOut: The time is over; the job goes on, or none is out.
            ClaimConflict: The job is on another endpoint.
            EdgeError: A service does not answer, or refuses.
        """
        pursuit = Pursuit(self._edge, self._session, claim, self._view)
        while True:
            seen = pursuit.step()
            if isinstance(seen, End):
                return seen
            left_s = self._deadline.left_s()
            if left_s <= 0:
                raise WaitTimedOut(self._over(pursuit))
            self._edge.clock.sleep(min(seen, left_s))

    def _over(self, pursuit: Pursuit) -> str:
        waited = f"after {self._deadline.timeout_s or 0:.0f} s"
        if pursuit.plans_submission:
            return f"no transcript {waited}: nothing is out now"
        return f"still out {waited}: the job goes on"

"""One session in a batch: claimed and submitted, or found out, and then pursued.

A `Task` is stepped by one thread at a time, any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from edge_client import claim as claims
from edge_client import posting
from edge_client.batch.values import Item, Need
from edge_client.claim import Claim, Held, Wanted
from edge_client.edge import Edge
from edge_client.errors import AnswerLost, AudioNotFound, ClaimConflict, EdgeError
from edge_client.follow import Pace, View
from edge_client.layout import Session
from edge_client.pursuit import End, Pursuit
from edge_client.submission import call_back


@dataclass(frozen=True)
class Terms:
    """How a batch is run.

    Attributes:
        wanted: What is asked of every job.
        pace: How often a job is looked at.
        max_in_flight: Jobs of this box that are out at once.
    """

    wanted: Wanted
    pace: Callable[[Claim], Pace]
    max_in_flight: int = 100


@dataclass
class Task:
    """One session's way through a batch.

    Attributes:
        view: Shows what is seen of the session.
        mine: This run submits its job; it is not another box's.
    """

    edge: Edge
    item: Item
    terms: Terms
    view: View
    mine: bool = field(init=False)
    _pursuit: Pursuit | None = None
    _held: Held | None = None
    _tried: bool = False

    def __post_init__(self) -> None:
        self.mine = self.item.need is Need.SUBMIT
        self._held = self.item.held

    @property
    def session(self) -> Session:
        """Which session it is."""
        return self.item.session

    @property
    def claim(self) -> Claim | None:
        """The submission that is pursued; None while none is out."""
        return None if self._pursuit is None else self._pursuit.claim

    @property
    def plans_submission(self) -> bool:
        """Whether the next step posts a job."""
        if self._pursuit is None:
            return self.item.need is Need.SUBMIT
        return self._pursuit.plans_submission

    def step(self) -> End | float:
        """Do what is due; return the end, or the seconds until the next step.

        Raises:
            EdgeError: As `Pursuit.step` and `posting.post`. The step can be made again.
        """
        if self._pursuit is not None:
            return self._pursuit.step()
        claim = self._followed() if self.item.need is Need.FOLLOW else self._submitted()
        self._pursuit = Pursuit(self.edge, self.session, claim, self.view, self.terms.pace)
        return self.terms.pace(claim).next_s() if self.mine else 0.0

    def _followed(self) -> Claim:
        if self._held is None or self._held.claim is None:
            raise AssertionError("what is followed has a claim")
        return self._held.claim

    def _submitted(self) -> Claim:
        """Claim the session and post its job; where another box was faster, take its claim."""
        if self._tried:  # an earlier try claimed, and let go; another box may have claimed since
            self._held = claims.read(self.edge.bucket, self.session)
            claim = self._held.claim if self._held is not None else None
            if claim is not None and claim.is_alive(self.edge.clock.now()):
                self.mine = False
                return claim
        self._tried = True
        try:
            return self._posted(self._held)
        except AnswerLost as exc:
            self.view.note(str(exc))
            return self._claim_now(exc)
        except ClaimConflict as exc:
            self.mine = False
            return self._claim_now(exc)

    def _posted(self, held: Held | None) -> Claim:
        audio = self.item.audio
        if audio is None or audio.size_bytes == 0:
            raise AudioNotFound(f"the recording {self.session.audio_key} is empty, or gone")
        if held is not None and held.claim is not None:
            call_back(self.edge, held.claim, self.view.note)
        task = posting.Task(self.terms.wanted, self.view.note)
        return posting.post(self.edge, self.session, audio, held, task)

    def _claim_now(self, cause: EdgeError) -> Claim:
        held = claims.read(self.edge.bucket, self.session)
        if held is None or held.claim is None:
            raise cause
        return held.claim

"""What happened in a simulation, checked against docs/guarantees.md as it happens."""

import json
from collections import Counter
from datetime import datetime
from typing import Any

from edge_client.session import Session

State = tuple[str, str, str]
"""Of claim, object and job."""


class History:
    """All that was written and submitted; ``violations`` are broken promises."""

    def __init__(self, cap: int, is_told: bool = False) -> None:
        self.violations: list[str] = []
        self.happened: Counter[str] = Counter()
        self.states: Counter[State] = Counter()
        self.transitions: Counter[tuple[State, State]] = Counter()
        self.trace: list[str] = []
        self._cap, self.is_told = cap, is_told
        self._versions: dict[Session, int] = {}
        self._claims: dict[Session, dict[str, Any]] = {}
        self._objects: dict[Session, int] = {}
        self._jobs: dict[str, str] = {}
        self._of: dict[str, tuple[Session, str]] = {}
        self._claimed_at: dict[str, int] = {}
        self._known: set[str] = set()
        self._done: set[str] = set()
        self._taken: dict[tuple[Session, str], list[str]] = {}
        self._free: set[str] = set()
        self._last: dict[Session, State] = {}
        self._forced: Counter[Session] = Counter()

    def add(self, other: "History") -> None:
        """Take what was reached elsewhere."""
        self.happened += other.happened
        self.states += other.states
        self.transitions += other.transitions

    def text(self) -> str:
        """Say which states of (claim, object, job) were reached, how often, and what went wrong."""
        lines = [f"{len(self.states)} states, {len(self.transitions)} transitions"]
        lines += [f"{count:9,}  {', '.join(state)}" for state, count in self.states.most_common()]
        lines += [f"{count:9,}  {name}" for name, count in self.happened.most_common()]
        return "\n".join(lines)

    def broken(self, promise: str) -> None:
        """A promise does not hold."""
        self.violations.append(promise)
        self.trace.append(f"VIOLATION {promise}")

    def tell(self, second: float, text: str) -> None:
        """Keep a line for people."""
        if self.is_told:
            self.trace.append(f"{second:9.2f} {text}")

    def recorded(self, session: Session, version: int) -> None:
        """A recording is there, perhaps in place of another one."""
        self._versions[session] = version
        self._look(session)

    def claimed(self, session: Session, claim: dict[str, Any]) -> None:
        """A claim was written."""
        self._claims[session] = claim
        self._of[claim["request_id"]] = session, claim["audio_etag"]
        self._claimed_at.setdefault(claim["request_id"], len(self._claimed_at))
        if claim["ended"] == "done":
            self._done.add(claim["request_id"])
            self._known.discard(claim["request_id"])
        elif claim["job_id"] is not None:
            self._known.add(claim["request_id"])
        self._look(session)

    def taken(self, request_id: str, living: list[str], cancelled: set[str]) -> None:
        """RunPod took a submission; so many others of its session live, some are cancelled."""
        if request_id not in self._of:
            self.broken(f"{request_id} was posted before its claim was written")
            return
        session, etag = self._of[request_id]
        before = self._taken.setdefault((session, etag), [])
        if request_id in before:
            self.broken(f"{session}: one submission was posted twice")
        before.append(request_id)
        paid = [each for each in before if each not in self._free]
        if len(paid) > self._cap * (1 + self._forced[session]):
            self.broken(f"{session}: one recording was submitted {len(paid)} times")
        for other in living:
            self._check_living(session, request_id, other, other in cancelled)

    def _check_living(
        self, session: Session, request_id: str, other: str, is_cancelled: bool
    ) -> None:
        """Two jobs of a session live: only --force may do that, or RunPod, once there is a text."""
        is_earlier = self._claimed_at[other] < self._claimed_at[request_id]
        if is_earlier and other in self._known and not is_cancelled:
            self.broken(f"{session}: a job was replaced, and not cancelled")
        lost = other if is_earlier else request_id
        if lost not in self._known | self._done and not self._forced[session]:
            self.broken(f"{session}: a submission whose answer was lost was repeated")

    def forced(self, session: Session) -> None:
        """Somebody said --force: the count of a recording's submissions starts anew."""
        self._forced[session] += 1

    def is_free(self, request_id: str) -> None:
        """The submission ended as the deployment's fault: it costs next to nothing."""
        self._free.add(request_id)

    def job(self, request_id: str, state: str) -> None:
        """A job's state changed."""
        self._jobs[request_id] = state
        if request_id in self._of:
            self._look(self._of[request_id][0])

    def stored(self, session: Session, body: bytes, over: bytes | None) -> None:
        """A transcript was stored; its text says which recording it is of."""
        name, version = text_of(body)
        if name != str(session):
            self.broken(f"{session}: the text of {name} was stored")
        if over is not None and text_of(over)[1] > version:
            self.broken(f"{session}: version {version} replaced {text_of(over)[1]}")
        self._objects[session] = version
        self._done.add(json.loads(body)["request_id"])
        self._look(session)

    def _look(self, session: Session) -> None:
        """Keep the state that a session is in, and how it came there."""
        claim, version = self._claims.get(session), self._objects.get(session)
        job = "none" if claim is None else self._jobs.get(claim["request_id"], "none")
        is_last = version == self._versions.get(session)
        text = "none" if version is None else "current" if is_last else "outdated"
        state = _claim_state(claim), text, job
        before = self._last.get(session)
        if state != before:
            self.states[state] += 1
            if before is not None:
                self.transitions[before, state] += 1
            self._last[session] = state


def _claim_state(claim: dict[str, Any] | None) -> str:
    if claim is None:
        return "none"
    if claim["ended"] is not None:
        return "done" if claim["ended"] == "done" else "failed"
    if datetime.fromisoformat(claim["expires_at"]) < datetime.fromisoformat(claim["submitted_at"]):
        return "released"
    return "unanswered" if claim["job_id"] is None else "posted"


def text_of(body: bytes) -> tuple[str, int]:
    """Return the session and the version of a recording that a transcript is of."""
    name, _, version = json.loads(body)["segments"][0]["text"].partition("#")
    return name, int(version)

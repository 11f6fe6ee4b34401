"""Time, what is planned to go wrong, and the bucket."""

import hashlib
import heapq
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from edge_client.session import DEFAULT, Session
from tests.simulation.history import History

START = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


class Kind(StrEnum):
    """What an event is; ``target`` and ``amount`` mean something else for each."""

    RECORD = "record"  # session; 0: another size, else the same
    CRASH = "crash"  # box; so many calls later, after the call took effect if it is odd
    PREEMPT = "preempt"  # box; the next box goes first, so many calls later
    PUT_LOST = "put_lost"  # box; 0: the edge's PUT is stored, its answer lost; 1: and retried
    RUN_LOST = "run_lost"  # -1: never taken; else taken so many seconds later
    RUN_REFUSED = "run_refused"  # 0: no address; 1: 429; 2: 400
    FATE = "fate"  # how the next job that a worker takes goes (`Fate`); seconds
    DUPLICATE = "duplicate"  # the next job that a worker takes is given to another one, too
    S3_AWAY = "s3_away"  # box, -1: all; seconds
    API_AWAY = "api_away"  # 0: no answer, 1: a proxy's page; seconds
    MISSING = "missing"  # every job is 404; seconds
    STALE = "stale"  # /status lags behind so many seconds, for as long
    SWAPPED = "swapped"  # /status brings another job's output; seconds
    NO_WORKER = "no_worker"  # seconds
    FORCE = "force"  # box: its next batch is --force


class Fate(StrEnum):
    """What becomes of a job in a worker's hands."""

    SUCCESS = "success"
    INTERNAL = "internal"
    OUT_OF_MEMORY = "oom"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    NO_MODEL = "no_model"
    CRASH = "crash"
    SUSPENDED = "suspended"
    HANGS = "hangs"
    PUT_FAILS = "put_fails"
    PUT_DAMAGED = "put_damaged"
    PUT_UNSURE = "put_unsure"
    NO_OUTPUT = "no_output"
    SLOW = "slow"


@dataclass(frozen=True)
class Event:
    """Something that goes wrong at a second, or at the first occasion after it."""

    at_s: float
    kind: Kind
    target: int = 0
    amount: float = 0.0


class World:
    """The clock that all share, and what is due."""

    def __init__(self, events: tuple[Event, ...], history: History) -> None:
        self.now_s, self.history, self.events = 0.0, history, events
        self._unused = {k: [e for e in events if e.kind is k] for k in ONCE}
        self._windows = {k: [e for e in events if e.kind is k] for k in set(Kind) - ONCE}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.last_fault_s = max((e.at_s + max(0.0, e.amount) for e in events), default=0.0)

    def at(self, second: float, act: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._due, (max(second, self.now_s), next(self._order), act))

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Have something happen later."""
        self.at(self.now_s + seconds, act)

    @property
    def next_s(self) -> float:
        """When something is due."""
        return self._due[0][0] if self._due else float("inf")

    def go_to(self, second: float) -> None:
        """Let time pass, and happen what is due."""
        while self._due and self._due[0][0] <= second:
            due_s, _, act = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due_s)
            act()
        self.now_s = max(self.now_s, second)

    def take(self, kind: Kind, target: int | None = None) -> Event | None:
        """Return the first event of this kind whose time has come, once.

        A crash comes some calls later: two fewer are left each time.
        """
        unused = self._unused[kind]
        for number, event in enumerate(unused):
            if event.at_s > self.now_s:
                return None
            if target in (None, event.target):
                if kind in COUNTING and event.amount >= 2:
                    unused[number] = replace(event, amount=event.amount - 2)
                    return None
                del unused[number]
                self.history.happened[kind] += 1
                return event
        return None

    def during(self, kind: Kind, target: int | None = None) -> Event | None:
        """Return the event of this kind that lasts now."""
        for event in self._windows[kind]:
            if event.at_s > self.now_s:
                return None
            is_meant = target is None or event.target in (-1, target)
            if is_meant and self.now_s < event.at_s + event.amount:
                self.history.happened[kind] += 1
                return event
        return None


COUNTING = frozenset([Kind.CRASH, Kind.PREEMPT])
ONCE = frozenset(
    [Kind.CRASH, Kind.PREEMPT, Kind.PUT_LOST, Kind.RUN_LOST, Kind.RUN_REFUSED, Kind.FATE]
    + [Kind.DUPLICATE, Kind.FORCE]
)


@dataclass(frozen=True)
class Stored:
    """An object; a recording's bytes are not all there."""

    body: bytes
    size_bytes: int
    etag: str
    modified_at: datetime


class Changed(Exception):
    """412: the condition of a PUT is not met."""


class Store:
    """A bucket's objects, with conditional writes, by S3's clock, which tells whole seconds."""

    def __init__(self, world: World) -> None:
        self._world, self.objects = world, dict[str, Stored]()
        self.versions: dict[Session, list[Stored]] = {}

    def put(self, key: str, body: bytes, headers: dict[str, str], size: int | None = None) -> str:
        """Store an object; return its ETag."""
        there, wanted = self.objects.get(key), headers.get("If-Match")
        if headers.get("If-None-Match") == "*" and there is not None:
            raise Changed
        if wanted is not None and (there is None or there.etag != wanted):
            raise Changed
        etag = f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
        at = (START + timedelta(seconds=self._world.now_s)).replace(microsecond=0)
        self.objects[key] = Stored(body, len(body) if size is None else size, etag, at)
        session = DEFAULT.parse(key.rpartition("/")[0])
        if key == session.result_key:
            self._world.history.stored(session, body, None if there is None else there.body)
        if key == session.claim_key:
            self._world.history.claimed(session, json.loads(body))
        return etag

    def record(self, session: Session, size_bytes: int) -> None:
        """Upload a recording, in place of the one that is there; each is another one."""
        number = len(self.versions.setdefault(session, [])) + 1
        self.put(session.audio_key, f"{session}#{number}".encode(), {}, size_bytes)
        self.versions[session].append(self.objects[session.audio_key])
        self._world.history.recorded(session, number)

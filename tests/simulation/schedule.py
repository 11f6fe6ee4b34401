"""Schedules: drawn from a seed, run, and shrunk when they break a promise."""

from __future__ import annotations

import gc
import logging
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

from edge_client.batch.plan import plan
from edge_client.batch.types import Filter, PlannedAction, PlannedSession
from edge_client.jobs import submit
from edge_client.session import Session
from tests.simulation.box import SETTINGS, Box
from tests.simulation.endpoint import FATES, Endpoint
from tests.simulation.history import History, text_of
from tests.simulation.world import Event, Kind, Store, World

EVENTS_AT_LEAST = 20
HORIZON_S = 4 * 86_400.0
"""By then everything has ended."""
SIZES = (20_000, 100_000, 400_000)


@dataclass(frozen=True)
class Schedule:
    """What is run: how many of what, by whose clocks, and what goes wrong when."""

    seed: int
    sessions: int
    skews_s: tuple[float, ...]
    events: tuple[Event, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.sessions} sessions, boxes off by {self.skews_s} s"]
        lines += [f"  {e.at_s:8.1f} s  {e.kind} {e.target} {e.amount:.1f}" for e in self.events]
        return "\n".join(lines)


WEIGHTS = {
    Kind.RECORD: 4,
    Kind.CRASH: 4,
    Kind.PREEMPT: 4,
    Kind.PUT_LOST: 2,
    Kind.RUN_LOST: 3,
    Kind.RUN_REFUSED: 2,
    Kind.FATE: 8,
    Kind.DUPLICATE: 1,
    Kind.S3_AWAY: 1,
    Kind.API_AWAY: 1,
    Kind.MISSING: 1,
    Kind.STALE: 1,
    Kind.SWAPPED: 2,
    Kind.NO_WORKER: 1,
    Kind.FORCE: 0.3,
}


def draw(seed: int) -> Schedule:
    """Return the schedule of a seed."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    boxes, sessions = rng.choice((1, 2, 2, 3)), rng.choice((1, 1, 2, 3))
    span_s = rng.choice((60.0, 300.0, 1200.0, 4000.0))
    kinds = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=rng.randint(EVENTS_AT_LEAST, 32))
    events = [_event(rng, kind, boxes, sessions, span_s) for kind in kinds]
    skews = tuple(round(rng.uniform(-120, 120), 1) for _ in range(boxes))
    return Schedule(seed, sessions, skews, tuple(sorted(events, key=lambda e: e.at_s)))


def _event(rng: random.Random, kind: Kind, boxes: int, sessions: int, span_s: float) -> Event:
    at_s = round(rng.uniform(0, span_s) * rng.choice((0.05, 1, 1)), 1)
    target, amount = 0, 0.0
    if kind is Kind.RECORD:
        target, amount = rng.randrange(sessions), float(rng.random() < 0.2)
    elif kind in (Kind.CRASH, Kind.PREEMPT):
        target, amount = rng.randrange(boxes), float(rng.randrange(30))
    elif kind is Kind.FORCE:
        target = rng.randrange(boxes)
    elif kind is Kind.PUT_LOST:
        target, amount = rng.randrange(boxes), float(rng.randrange(2))
    elif kind is Kind.RUN_LOST:
        target = rng.choice((-1, 0, 0, 30, 90))
    elif kind is Kind.RUN_REFUSED:
        target = rng.randrange(3)
    elif kind is Kind.FATE:
        target, amount = rng.randrange(len(FATES)), rng.choice((0.0, 60.0, 600.0, 3000.0))
    elif kind is Kind.S3_AWAY:
        target, amount = rng.randrange(-1, boxes), rng.choice((20.0, 400.0, 900.0))
    elif kind is Kind.API_AWAY:
        target, amount = rng.randrange(2), rng.choice((20.0, 400.0, 900.0))
    elif kind is Kind.MISSING:
        amount = rng.choice((5.0, 30.0, 120.0, 1200.0))
    elif kind is Kind.STALE:
        amount = rng.choice((5.0, 30.0, 60.0))
    elif kind is Kind.SWAPPED:
        amount = rng.choice((60.0, 400.0, 1500.0))
    elif kind is Kind.NO_WORKER:
        amount = rng.choice((60.0, 1800.0, 1800.0, 9000.0))
    return Event(at_s, kind, target, amount)


def run(schedule: Schedule, is_told: bool = False) -> History:
    """Run a schedule to its end; the first broken promise ends it."""
    history = History(SETTINGS.retry_attempts, is_told)
    with _replayable(schedule.seed, history):
        _Simulation(schedule, history).run()
    return history


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Return a smallest schedule that fails: without any of its events it does not."""
    number = 0
    while number < len(schedule.events):
        events = schedule.events[:number] + schedule.events[number + 1 :]
        fewer = replace(schedule, events=events)
        if fails(fewer):
            schedule = fewer
        else:
            number += 1
    return schedule


class _Simulation:
    def __init__(self, schedule: Schedule, history: History) -> None:
        self.history = history
        self.world = World(schedule.events, history)
        self.store = Store(self.world)
        self.endpoint = Endpoint(self.world, self.store, schedule.seed)
        make = partial(Box, world=self.world, store=self.store, endpoint=self.endpoint)
        self.boxes: list[Box] = [
            make(number, skew_s=skew_s, others=lambda: self.boxes)
            for number, skew_s in enumerate(schedule.skews_s)
        ]
        self.judge = make(len(self.boxes), is_judge=True)
        self.sessions = [Session(f"u{n % 2}", f"s{n}") for n in range(schedule.sessions)]
        for number, session in enumerate(self.sessions):
            self.store.record(session, SIZES[(schedule.seed + number) % len(SIZES)])
        for event in schedule.events:
            if event.kind is Kind.RECORD:
                self.world.at(event.at_s, partial(self._record, event))

    def _record(self, event: Event) -> None:
        session = self.sessions[event.target % len(self.sessions)]
        size = self.store.versions[session][-1].size_bytes
        self.history.tell(self.world.now_s, f"{session.name} is recorded again")
        self.history.happened[Kind.RECORD] += 1
        self.store.record(session, size if event.amount else size + 2_000)

    def run(self) -> None:
        """Let the next one act, until all is done and nobody can change it any more."""
        while not self.history.violations:
            box = min(self.boxes, key=lambda each: each.wake_s)
            self.world.go_to(box.wake_s)
            if self.world.now_s > HORIZON_S:
                left = [f"{p.session}: {p.action} {p.why}" for p in self._judged()]
                self.history.broken(f"not everything ended: {left}")
                return
            box.turn()
            if not box.is_working and self.world.now_s > self.world.last_fault_s and self._ended():
                return

    def _judged(self) -> list[PlannedSession]:
        return list(plan(self.judge.edge, Filter()))

    def _ended(self) -> bool:
        """Whether all is done; what is called done has to be so."""
        if any(not job.is_final for job in self.endpoint.jobs.values()):
            return False
        judged = self._judged()
        if any(planned.action.is_work for planned in judged):
            return False
        if any("tried again after" in planned.why for planned in judged):
            return False
        for planned in judged:
            self._check_end(planned)
        return True

    def _check_end(self, planned: PlannedSession) -> None:
        session, stored = planned.session, self.store.objects.get(planned.session.result_key)
        version = 0 if stored is None else text_of(stored.body)[1]
        versions = self.store.versions[session]
        self.history.happened[f"end {planned.action}"] += 1
        if planned.action is PlannedAction.DONE and version != len(versions):
            self.history.broken(f"{session}: done with version {version} of {len(versions)}")
        elif planned.action is PlannedAction.UNPROVEN:
            sizes = [versions[number - 1].size_bytes for number in (version, 0)]
            if sizes[0] != sizes[1]:
                self.history.broken(f"{session}: unproven, and of another size")
        elif planned.action not in (PlannedAction.DONE, PlannedAction.FAILED_BEFORE):
            self.history.broken(f"{session}: ended as {planned.action}: {planned.why}")


class _Surprises(logging.Handler):
    def __init__(self, history: History) -> None:
        super().__init__(logging.ERROR)
        self._history = history

    def emit(self, record: logging.LogRecord) -> None:
        self._history.broken(f"surprise: {record.getMessage()} {record.exc_info}")


@contextmanager
def _replayable(seed: int, history: History) -> Iterator[None]:
    """Take chance, ids and threads out of the product; surprises are broken promises."""
    state, numbers, handler = random.getstate(), count(1), _Surprises(history)
    random.seed(seed)
    ids = SimpleNamespace(uuid4=lambda: SimpleNamespace(hex=f"r{next(numbers)}"))
    log = logging.getLogger("edge_client")
    log.addHandler(handler)
    propagates, log.propagate = log.propagate, False
    try:
        with (
            patch.object(submit, "uuid", cast(Any, ids)),
            patch("edge_client.batch.plan.in_order", _one_by_one),
        ):
            yield
    finally:
        log.removeHandler(handler)
        log.propagate = propagates
        random.setstate(state)


def _one_by_one(values: Any) -> Iterator[PlannedSession]:
    for value in values:
        yield value() if isinstance(value, partial) else value


def check(seeds: Iterable[int]) -> History:
    """Run the schedules of these seeds; return what happened in all of them.

    Raises:
        AssertionError: With the smallest schedule that breaks a promise, and what happens in it.
    """
    seen = History(SETTINGS.retry_attempts)
    gc.freeze()  # what pytest has loaded need not be looked through again and again
    for seed in seeds:
        schedule = draw(seed)
        history = run(schedule)
        if history.violations:
            small = shrink(schedule, lambda fewer: bool(run(fewer).violations))
            trace = run(small, is_told=True).trace
            raise AssertionError("\n".join([str(small), *trace[-60:]]))
        seen.add(history)
    gc.unfreeze()
    return seen

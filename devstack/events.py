"""Keep the ordered log of the queue's events, for tests and people.

An event never holds an input, an output or a URL, so the log can be kept and shown.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class EventKind(StrEnum):
    """What can happen to a job, or to a worker."""

    SUBMITTED = "submitted"
    TAKEN = "taken"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    EXPIRED = "expired"
    FORGOTTEN = "forgotten"
    REQUEUED = "requeued"
    STOP_SENT = "stop_sent"
    LATE_PROGRESS = "late_progress"
    LATE_RESULT = "late_result"
    REFUSED_RESULT = "refused_result"
    WORKER_JOINED = "worker_joined"
    WORKER_REFRESH = "worker_refresh"
    WEBHOOK_DELIVERED = "webhook_delivered"
    WEBHOOK_REFUSED = "webhook_refused"


@dataclass(frozen=True)
class Event:
    """One thing that happened.

    Attributes:
        seq: Position in the log, from 0.
        at: Unix time in seconds.
        kind: What happened.
        job_id: The job it happened to, if any.
        worker_id: The worker that did it or holds the job, if any.
        detail: A few words, never a value from outside.
    """

    seq: int
    at: float
    kind: EventKind
    job_id: str | None = None
    worker_id: str | None = None
    detail: str | None = None

    def to_wire(self) -> dict[str, object]:
        """Return the fields that are set."""
        return {key: value for key, value in vars(self).items() if value is not None}


Listener = Callable[[Event], None]


class EventLog:
    """An append-only list of events that others can listen to."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._listeners: list[Listener] = []

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each event from now on, in the thread that caused it."""
        self._listeners.append(listener)

    def append(
        self,
        kind: EventKind,
        job_id: str | None = None,
        worker_id: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Add an event and tell the listeners."""
        event = Event(len(self._events), time.time(), kind, job_id, worker_id, detail)
        self._events.append(event)
        for listener in self._listeners:
            listener(event)

    def so_far(self) -> list[Event]:
        """Return the events so far, oldest first."""
        return list(self._events)


def write_json_lines(path: Path) -> Listener:
    """Return a listener that appends each event to `path` as one JSON line."""

    def write(event: Event) -> None:
        with path.open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(event.to_wire()) + "\n")

    return write

"""What a fault costs a batch that takes minutes, or hours that are played faster."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import Response

from devstack import EventKind
from devstack import stack as stack_
from devstack.api import QueueServer
from devstack.queue import JobNotFound, QueueConfig
from edge_client.clock import Clock
from edge_client.services import presign
from tests.e2e.drills import drilled
from tests.soak.conftest import Tell

AWAY_S = 5.0
FASTER = 1000
AUDIO_S = 74 * 60
JOB_S = 892
"""What a rented GPU took for as much audio."""


def test_five_seconds_of_404_with_five_jobs_in_flight_cost_no_second_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    forgotten, looks_s = Counter[str](), list[float]()

    async def forgets(
        request: Request, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Know no job, from the first look at one on."""
        path = request.url.path
        if "/status/" in path:
            looks_s.append(time.monotonic())
            if looks_s[-1] - looks_s[0] < AWAY_S:
                forgotten[path] += 1
                raise JobNotFound(path)
        return await answer(request)

    with drilled(tmp_path) as drill:
        monkeypatch.setattr(drill.stack.queue.api, "answer", forgets)
        drill.record(5, "--slow-4")
        assert drill.batch() == ""
        tell(f"{drill.paid()} jobs paid for 5 sessions, 404 answered {forgotten.total()} times")
        assert (drill.paid(), len(forgotten)) == (5, 5)
        assert drill.ends() == {"done": 5}


def fast_clock() -> Clock:
    """Return a clock that runs `FASTER` times as fast as the world's."""
    began_s, began = time.monotonic(), datetime.now(UTC)

    def monotonic() -> float:
        return (time.monotonic() - began_s) * FASTER

    return Clock(
        now=lambda: began + timedelta(seconds=monotonic()),
        monotonic=monotonic,
        sleep=lambda seconds: time.sleep(seconds / FASTER),
    )


def test_no_job_of_two_hundred_long_sessions_expires_in_the_queue_of_three_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tell: Tell
) -> None:
    """The last one waits 17 hours, and a job lives for three: all at once, most would expire."""
    clock = fast_clock()
    monkeypatch.setattr(stack_, "QueueServer", partial(QueueServer, clock=clock.monotonic))
    monkeypatch.setattr(presign, "ASSUMED_BYTES_PER_S", 1)
    config = QueueConfig(worker_silence_s=30.0 * FASTER)
    with drilled(tmp_path, workers=3, worker_env={"SLOTS": "1"}, config=config) as drill:
        monkeypatch.setenv("LOST_ANSWER_SECONDS", "3600")
        drill.clock = clock
        drill.record(200, f"--slow-{JOB_S / FASTER}", b"-" * AUDIO_S)
        began_s = clock.monotonic()
        assert drill.batch((60, 300)) == ""
        hours = (clock.monotonic() - began_s) / 3600
        expired = drill.stack.queue_events(EventKind.TIMED_OUT, EventKind.EXPIRED)
        tell(f"{drill.paid()} jobs in {hours:.1f} h, {len(expired)} expired, {dict(drill.ends())}")
        assert expired == []
        assert drill.ends() == {"done": 200}
        assert drill.paid() == 200

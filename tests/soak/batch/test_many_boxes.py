"""Several edge boxes on one bucket at the same moment."""

from __future__ import annotations

import time

import pytest

from devstack import EventKind
from tests.soak.batch.conftest import Tell
from tests.soak.batch.ground import Ground, sessions

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
BOXES = 3


def test_three_batches_submit_each_session_once(place: Ground, tell: Tell) -> None:
    """All three end well, and each did a part of the work."""
    all_sessions = sessions(500)
    place.record(all_sessions)
    started = time.monotonic()
    outputs = [(place.home / f"box-{n}.log").open("wb") for n in range(BOXES)]
    reports = [place.home / f"box-{n}.jsonl" for n in range(BOXES)]
    boxes = [
        place.start(output, "batch", "--report", str(report))
        for output, report in zip(outputs, reports, strict=True)
    ]
    codes = [box.wait(280) for box in boxes]
    for output in outputs:
        output.close()
    logs = [(place.home / f"box-{n}.log").read_text() for n in range(BOXES)]
    completed = len(place.stack.queue_events(EventKind.COMPLETED))
    tell(
        f"{time.monotonic() - started:.0f} s for {len(all_sessions)} sessions on {BOXES} boxes; "
        f"{len(place.submissions())} submitted, {completed} completed; lines in their reports: "
        f"{[len(report.read_text().splitlines()) for report in reports]}"
    )
    assert codes == [0] * BOXES, "\n".join(log[-2000:] for log in logs)
    place.check_each_once(all_sessions)
    assert completed == len(all_sessions)

"""Two thousand jobs, answered at once: what a batch costs beside the GPU's time."""

from __future__ import annotations

import time

import pytest

from tests.soak.batch.conftest import Tell
from tests.soak.batch.ground import Ground, sessions

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
JOBS = 2_000


def test_two_thousand_jobs_each_submitted_once(place: Ground, tell: Tell) -> None:
    """Few connections and a few requests a session; RunPod's limits are kept."""
    all_sessions = sessions(JOBS)
    place.record(all_sessions)
    started = time.monotonic()
    done = place.client("batch", "--max-in-flight", "300")
    wall_s = time.monotonic() - started
    seen = place.traffic()
    asked = seen["requests"]
    tell(
        f"{wall_s:.0f} s, {JOBS / wall_s:.0f} jobs/s; {seen['connections']} connections; a "
        f"session: {asked['run'] / JOBS:.2f} /run, {asked.get('status', 0) / JOBS:.2f} /status, "
        f"{asked.get('health', 0) / JOBS:.3f} /health; fullest 10 s: {seen['most_in_window']}; "
        f"at once: {seen['most_at_once']}; refused: {sum(seen['refused'].values())}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    place.check_each_once(all_sessions)
    assert seen["refused"] == {}
    assert seen["connections"] <= 20
    assert sum(asked.values()) / JOBS < 6

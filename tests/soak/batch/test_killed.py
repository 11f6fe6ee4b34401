"""A batch that is killed again and again, and a queue that goes away: nothing is paid for twice."""

from __future__ import annotations

import random
import signal
import threading
import time

import pytest

from tests.soak.batch.conftest import Tell
from tests.soak.batch.ground import Ground, sessions

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
KILLS = 30
SESSIONS = 1_200
SEED = 20261122


def kill_and_resume(place: Ground, chance: random.Random) -> list[int]:
    """Kill a batch at random moments of its work, then let it end; return submissions after each.

    Stops killing when a batch ended before its time.
    """
    after: list[int] = []
    for _ in range(KILLS):
        command = (f"{chance.uniform(0.0, 2.0):.3f}", "batch", "--max-in-flight", "40")
        done = place.client(*command, module="tests.soak.batch.short_lived")
        if done.returncode != -signal.SIGKILL:
            break
        after.append(len(place.submissions()))
    done = place.client("batch")
    assert done.returncode == 0, done.stdout + done.stderr
    return after


def test_killed_at_thirty_moments_submits_each_session_once(place: Ground, tell: Tell) -> None:
    """Each time the same command goes on where the last one was killed."""
    all_sessions = sessions(SESSIONS)
    place.record(all_sessions)
    started = time.monotonic()
    after = kill_and_resume(place, random.Random(SEED))  # noqa: S311 - to repeat it
    lost = sum(claim.job_id is None for claim, _ in place.stored(all_sessions))
    tell(
        f"{len(after)} kills, {time.monotonic() - started:.0f} s in all; submissions after each: "
        f"{after}; {len(place.submissions())} in all; {lost} answers lost and found in S3"
    )
    place.check_each_once(all_sessions, may_be_lost=True)
    assert len(after) == KILLS


def test_killed_while_the_queue_restarts_submits_each_session_once(
    place: Ground, tell: Tell
) -> None:
    """What the queue took before it went away is never submitted again."""
    all_sessions = sessions(SESSIONS)
    place.record(all_sessions)
    chance, ended, restarts = random.Random(SEED + 1), threading.Event(), 0  # noqa: S311

    def restart_now_and_then() -> None:
        nonlocal restarts
        while not ended.wait(chance.uniform(2.0, 6.0)):
            place.stack.queue.restart(chance.uniform(0.1, 1.5))
            restarts += 1

    restarting = threading.Thread(target=restart_now_and_then)
    restarting.start()
    started = time.monotonic()
    try:
        after = kill_and_resume(place, random.Random(SEED))  # noqa: S311
    finally:
        ended.set()
        restarting.join()
    tell(
        f"{len(after)} kills and {restarts} restarts in {time.monotonic() - started:.0f} s, "
        f"submissions after each kill: {after}; {len(place.submissions())} in all"
    )
    place.check_each_once(all_sessions, may_be_lost=True)
    assert (len(after), restarts > 5) == (KILLS, True)

"""A batch that is killed or interrupted, and a queue that goes away: no job is paid for twice."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from devstack import EventKind
from edge_client.session import Session
from tests.fakes.queue_restart import restart
from tests.processes import wait_until
from tests.soak.batch.conftest import Box, sessions
from tests.soak.conftest import Tell

pytestmark = pytest.mark.timeout(900)
KILLS = 30
SESSIONS = 1_200
SEED = 20261122
IN_FLIGHT = 2
SLOW_S = 12
FIRST_STEP = 4
"""Before the first POST a job that fails is killed at the same steps as any other."""
SLOW = sessions(5, f"--slow-{SLOW_S}")


def kill_and_resume(box: Box) -> list[int]:
    """Kill a batch at random moments of its work, again and again; return submissions after each.

    Stops when a batch ended before its time.
    """
    chance, after = random.Random(SEED), list[int]()  # noqa: S311 - to repeat it
    for _ in range(KILLS):
        short_lived = ("tests.soak.batch.short_lived", str(chance.uniform(0.001, 2.0)))
        ended = box.client("batch", "--max-in-flight", "40", module=short_lived, code=None)
        if ended != -signal.SIGKILL:
            break
        after.append(len(box.submissions()))
    return after


@pytest.mark.parametrize("queue_restarts", [False, True])
def test_killed_at_thirty_moments_submits_each_session_once(
    box: Box, tell: Tell, queue_restarts: bool
) -> None:
    """The same command goes on where the last was killed; what the queue took is never lost."""
    all_sessions = sessions(SESSIONS)
    box.record(all_sessions)
    chance, ended, restarts = random.Random(SEED + 1), threading.Event(), 0  # noqa: S311

    def restart_now_and_then() -> None:
        nonlocal restarts
        while queue_restarts and not ended.wait(chance.uniform(2.0, 6.0)):
            restart(box.stack.queue, chance.uniform(0.1, 1.5))
            restarts += 1

    restarting = threading.Thread(target=restart_now_and_then)
    restarting.start()
    started = time.monotonic()
    try:
        after = kill_and_resume(box)
    finally:
        ended.set()
        restarting.join()
    box.client("batch")  # undisturbed: a queue that is away makes a batch pause for 15 s
    lost = sum(claim.job_id is None for claim in box.stored(all_sessions))
    tell(
        f"{len(after)} kills and {restarts} restarts in {time.monotonic() - started:.0f} s; "
        f"submissions after each kill: {after}; {len(box.submissions())} in all; {lost} answers "
        "lost and found in S3"
    )
    box.check_each_once(all_sessions, may_be_lost=True)
    assert len(after) == KILLS
    assert (restarts > 5) == queue_restarts


def test_killed_after_any_step_of_a_retry_the_same_command_ends_in_one_transcript(box: Box) -> None:
    """The suite of the faults kills the client of a job that does not fail."""
    for steps in range(FIRST_STEP, 100):
        session = Session("u1", f"s{steps}--flaky")
        box.record([session])
        before, command = len(box.submissions()), ("submit", session.prefix, "--wait")
        dying = ("tests.unit.edge_client.crashing_client", str(steps))
        ended = box.client(*command, module=dying, code=None)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        box.client(*command)
        assert box.missing([session]) == []
        assert len(box.submissions()) - before == 2, f"killed after step {steps}"
    assert steps > 2 * FIRST_STEP  # there were steps to be killed between


def started(box: Box) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a batch over slow sessions; return it and its log once its first jobs are in flight."""
    box.record(SLOW)
    log = box.home / "batch.log"
    batch = box.start(log, "batch", "--max-in-flight", str(IN_FLIGHT))
    wait_until(lambda: log.read_text().count(" submitted: ") == IN_FLIGHT, 60)
    return batch, log


def test_one_interrupt_waits_for_jobs_in_flight_and_the_next_batch_does_the_rest(box: Box) -> None:
    batch, log = started(box)
    batch.send_signal(signal.SIGINT)
    assert batch.wait(90) == 130
    assert len(box.submissions()) == IN_FLIGHT
    assert "Not complete: 2 succeeded, 0 failed" in log.read_text()
    assert "the same command resumes" in log.read_text()
    box.client("batch")
    box.check_each_once(SLOW)


@pytest.mark.parametrize("signals", [[signal.SIGINT] * 2, [signal.SIGTERM]])
def test_batch_leaves_at_once_and_the_next_one_follows_its_jobs(
    box: Box, signals: list[signal.Signals]
) -> None:
    batch, log = started(box)
    for number in signals:
        batch.send_signal(number)
        time.sleep(0.2)
    assert batch.wait(30) == 130
    assert box.stack.queue_events(EventKind.COMPLETED) == []
    assert "in flight: 2 (the same command follows them)" in log.read_text()
    box.client("batch")
    box.check_each_once(SLOW)

"""A batch on the stack: one box is killed, another goes on; and what a batch does after that."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

from devstack import EventKind
from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.e2e.conftest import ROOT, UNREADABLE, Bench

USER = "batch"
SESSIONS = [Session(USER, f"s{number}") for number in range(3)]


def test_box_that_is_killed_loses_nothing_and_the_next_submits_each_session_once(
    bench: Bench, short_wav: bytes, tmp_path: Path
) -> None:
    for session in SESSIONS:
        bench.put(session.audio_key, short_wav)
    before = submissions(bench)
    kill_after_first_submission(bench, tmp_path / "killed.log")
    said = bench.edge_client("batch", "--user", USER)
    assert "Complete: 3 succeeded, 0 failed" in said
    assert submissions(bench) - before == len(SESSIONS)
    for session in SESSIONS:
        lines = parse(bench.read(session.result_key)).lines
        assert sum(len(line.text.split()) for line in lines) > 5

    # a replaced recording alone runs again, and one that cannot be read is named
    bench.put(SESSIONS[0].audio_key, short_wav + bytes(32_000))
    bench.put(SESSIONS[1].audio_key, UNREADABLE)
    said = bench.edge_client("batch", "--user", USER, code=1)
    assert "Complete: 1 succeeded, 1 failed" in said
    assert "already done: 1" in said
    assert f"{SESSIONS[1].prefix}: AUDIO_UNREADABLE" in said
    assert submissions(bench) - before == len(SESSIONS) + 2


def submissions(bench: Bench) -> int:
    return len(bench.stack.queue_events(EventKind.SUBMITTED))


def kill_after_first_submission(bench: Bench, log: Path) -> None:
    """Start a batch of one job at a time, and SIGKILL it once that is in flight."""
    command = [sys.executable, "-m", "edge_client", "batch", "--user", USER, "--max-in-flight", "1"]
    with log.open("wb") as output:
        batch = subprocess.Popen(command, env=bench.env, cwd=ROOT, stderr=output)
    deadline = time.monotonic() + 60
    while " submitted: " not in log.read_text():
        assert batch.poll() is None, log.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    batch.send_signal(signal.SIGKILL)
    assert batch.wait(10) == -signal.SIGKILL
    bench.printed.append(log.read_text())

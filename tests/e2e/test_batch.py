"""A batch on the stack: one box is killed, another goes on; and what a batch does after that."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.e2e.conftest import UNREADABLE, Bench, RunningEdge

USER = "batch"
SESSIONS = [Session(USER, f"s{number}") for number in range(3)]


def test_box_that_is_killed_loses_nothing_and_the_next_submits_each_session_once(
    bench: Bench, short_wav: bytes, tmp_path: Path
) -> None:
    for session in SESSIONS:
        bench.put(session.audio_key, short_wav)
    before = len(bench.submissions())
    log = tmp_path / "killed.log"
    killed = RunningEdge(bench, log, "batch", "--user", USER, "--max-in-flight", "1")
    killed.until(" submitted: ")
    assert killed.end(signal.SIGKILL) == -signal.SIGKILL
    said = bench.edge_client("batch", "--user", USER)
    counts = re.search(r"Complete: (\d) succeeded, 0 failed(?:\n  already done: (\d))?", said)
    assert counts, said  # the killed box's job may have ended between the two
    assert sum(int(count or 0) for count in counts.groups()) == len(SESSIONS)
    assert len(bench.submissions()) - before == len(SESSIONS)
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
    assert len(bench.submissions()) - before == len(SESSIONS) + 2

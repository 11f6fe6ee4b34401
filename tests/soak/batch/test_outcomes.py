"""One batch with every kind of end, through the worker that answers at once."""

from __future__ import annotations

import json

import pytest

from edge_client.session import Session
from tests.soak.batch.ground import Ground

pytestmark = pytest.mark.e2e
KINDS = ("fine", "fail", "flaky", "upload_failed", "slow-1")


def test_every_end_is_reported_as_what_it_is(place: Ground) -> None:
    """What failed is named and makes the exit code 1; what could be mended was."""
    all_sessions = [Session("u1", f"s--{kind}") for kind in KINDS]
    place.record(all_sessions)
    report = place.home / "report.jsonl"
    done = place.client("batch", "--report", str(report))
    records = {r["session"]: r for r in map(json.loads, report.read_text().splitlines())}
    seen = {kind: records[s.prefix] for kind, s in zip(KINDS, all_sessions, strict=True)}
    assert done.returncode == 1, done.stdout + done.stderr
    assert [seen[kind]["result"] for kind in KINDS] == ["done", "failed", "done", "done", "done"]
    assert seen["fail"]["code"] == "AUDIO_UNREADABLE"
    assert seen["flaky"]["submissions"] == ["STORAGE_UNAVAILABLE", "done"]
    assert [len(seen[kind]["submissions"]) for kind in KINDS] == [1, 1, 2, 1, 1]
    assert len(place.submissions()) == len(KINDS) + 1
    assert place.missing(all_sessions) == [all_sessions[1].prefix]


def test_check_of_each_once_sees_a_second_submission(place: Ground) -> None:
    """The shows stand on this check."""
    twice = Session("u1", "s")
    place.record([twice])
    assert place.client("batch").returncode == 0
    place.check_each_once([twice])
    assert place.client("submit", twice.prefix, "--force", "--wait").returncode == 0
    with pytest.raises(AssertionError):
        place.check_each_once([twice])

"""Sessions of every name and every end, thousands at once, and on several boxes."""

from __future__ import annotations

import json
import time
import unicodedata
from bisect import bisect_left
from collections import defaultdict

import pytest
from starlette.requests import Request
from starlette.responses import Response

from devstack import EventKind
from devstack.api import Handler
from edge_client.session import Session
from tests.soak.batch.conftest import Box, sessions
from tests.soak.conftest import Tell

pytestmark = pytest.mark.timeout(400)
MAX_KEY_BYTES = 1024
LONGEST_FILE = "/transcription.progress.json"
# No backslash: SeaweedFS stores it as a slash.
NAMES = [
    "with a space", " spaces around ", "two  spaces", "plus+plus", "100%", "a%20b", "a%2Fb",
    "a&b=c", "quo'te\"s", "semi;colon,comma:colon", "(star*) ~ ! $ @", "hash#query?x=1",
    "<xml>&amp;", "[brackets]{braces}|^`", "tab\tand\nnew line",
    unicodedata.normalize("NFC", "übung café"), unicodedata.normalize("NFD", "übung café"),
    "日本語の録音", "🎙 emoji 👩‍🔬", "..hidden", "x" * 200, "ü" * 100,
]  # fmt: skip
KINDS = ("fine", "fail", "flaky", "upload_failed", "slow-1")
JOBS = 2_000
RUNPOD_TAKES = {"run": 1000, "status": 2000, "cancel": 100}
"""In ten seconds, by the first word of the path."""
BOXES = 3


@pytest.mark.parametrize("user", ["u1", "user +%41 ü&'"])
def test_every_name_becomes_a_transcript(box: Box, user: str) -> None:
    """The longest key is as long as S3 takes; a second batch has nothing to do."""
    room = MAX_KEY_BYTES - len(Session(user, "").prefix.encode()) - len(LONGEST_FILE)
    all_sessions = [Session(user, name) for name in [*NAMES, "y" * room]]
    box.record(all_sessions)
    for _ in range(2):
        box.client("batch")
        box.check_each_once(all_sessions)


def test_every_name_can_be_given_on_the_command_line(box: Box) -> None:
    """As a bare name that is looked up; names that differ in normalisation are not mixed up."""
    all_sessions = [Session("u1", name) for name in NAMES]
    box.record(all_sessions)
    box.client("batch", *(word for name in NAMES for word in ("--session", name)))
    box.check_each_once(all_sessions)


def test_every_end_is_reported_as_what_it_is(box: Box) -> None:
    """What failed is named and makes the exit code 1; what could be mended was."""
    all_sessions = [Session("u1", f"s--{kind}") for kind in KINDS]
    box.record(all_sessions)
    report = box.home / "report.jsonl"
    box.client("batch", "--report", str(report), code=1)
    records = {r["session"]: r for r in map(json.loads, report.read_text().splitlines())}
    seen = {kind: records[s.prefix] for kind, s in zip(KINDS, all_sessions, strict=True)}
    assert [seen[kind]["result"] for kind in KINDS] == ["done", "failed", "done", "done", "done"]
    assert seen["fail"]["code"] == "AUDIO_UNREADABLE"
    assert seen["flaky"]["submissions"] == ["STORAGE_UNAVAILABLE", "done"]
    assert [len(seen[kind]["submissions"]) for kind in KINDS] == [1, 1, 2, 1, 1]
    assert len(box.submissions()) == len(KINDS) + 1
    assert box.missing(all_sessions) == [all_sessions[1].prefix]


def test_two_thousand_jobs_take_few_connections_and_requests(
    box: Box, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RunPod's limits are kept, and each session is submitted once."""
    all_sessions = sessions(JOBS)
    box.record(all_sessions)
    asked, connections = defaultdict[str, list[float]](list), set[object]()
    answer = box.stack.queue.api.answer

    async def count(request: Request, handler: Handler) -> Response:
        asked[request.url.path.split("/")[3]].append(time.monotonic())
        connections.add(request.client)
        return await answer(request, handler)

    monkeypatch.setattr(box.stack.queue.api, "answer", count)
    started = time.monotonic()
    box.client("batch", "--max-in-flight", "300")
    wall_s = time.monotonic() - started
    each = ", ".join(f"{len(times) / JOBS:.3f} /{kind}" for kind, times in asked.items())
    fullest = {kind: fullest_window(times) for kind, times in asked.items()}
    tell(
        f"{wall_s:.0f} s, {JOBS / wall_s:.0f} jobs/s; {len(connections)} connections; a session: "
        f"{each}; fullest 10 s: {fullest}"
    )
    box.check_each_once(all_sessions)
    assert all(fullest[kind] <= RUNPOD_TAKES[kind] for kind in fullest.keys() & RUNPOD_TAKES)
    assert len(connections) <= 20
    assert sum(map(len, asked.values())) / JOBS < 6


def fullest_window(times_s: list[float]) -> int:
    """Return the most requests that came within ten seconds."""
    return max(bisect_left(times_s, first + 10) - at for at, first in enumerate(times_s))


def test_three_boxes_submit_each_session_once(box: Box, tell: Tell) -> None:
    """All three end well."""
    all_sessions = sessions(500)
    box.record(all_sessions)
    started = time.monotonic()
    logs = [box.home / f"box-{number}.log" for number in range(BOXES)]
    batches = [box.start(log, "batch") for log in logs]
    codes = [batch.wait(280) for batch in batches]
    tell(f"{time.monotonic() - started:.0f} s for {len(all_sessions)} sessions on {BOXES} boxes")
    assert codes == [0] * BOXES, "\n".join(log.read_text()[-2000:] for log in logs)
    box.check_each_once(all_sessions)
    assert len(box.stack.queue_events(EventKind.COMPLETED)) == len(all_sessions)

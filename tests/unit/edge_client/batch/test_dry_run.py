"""The dry run: what would run, in lines and sums, and nothing but reading."""

import contextlib
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from edge_client.batch.dry_run import (
    MeasuredSession,
    Sums,
    dry_run,
    measure_all,
    show,
)
from edge_client.batch.results import NAMED_AT_MOST
from edge_client.batch.types import Filter, PlannedAction, PlannedSession
from edge_client.errors import StorageRefused
from edge_client.jobs.claim import StoredClaim
from edge_client.services.edge import Edge
from edge_client.services.presign import Length
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import RunpodServer, S3Server
from tests.unit.edge_client.batch.samples import put_claim
from tests.unit.edge_client.samples import NOW, claim, transcript, wav

GOLDEN = Path(__file__).with_name("dry_run.txt")
BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
SUBMIT, FOLLOW = PlannedAction.SUBMIT, PlannedAction.FOLLOW


@pytest.fixture
def full(s3: S3Server) -> S3Server:
    """A bucket with a session of every kind."""

    def record(user: str, name: str, seconds: float = 4) -> Session:
        s3.put(Session(user, name).audio_key, wav(seconds))
        return Session(user, name)

    def submit(name: str, **changes: Any) -> None:
        put_claim(s3, record("bob", name), **changes)

    record("ada", "new", 90)
    record("ada", "ümläute + 100% (1)", 30)
    record("ada", "escape \x1b[31m", 1)
    s3.put(record("ada", "done", 2).result_key, transcript(), AFTER)
    s3.put(record("bob", "replaced", 60).result_key, transcript(), BEFORE)
    s3.put(record("bob", "transcript-empty", 2).result_key, b"", AFTER)
    submit("in-flight", duration_s=600.0)
    submit("unanswered", job_id=None)
    submit("elsewhere", endpoint_id="ep2")
    submit("failed", ended="AUDIO_UNREADABLE: no audio")
    submit("away", ended="STORAGE_UNAVAILABLE: S3 away")
    submit("over", submitted_at=BEFORE, expires_at=BEFORE)
    for number in range(17):
        s3.put(f"{Session('eve', 'chunks').prefix}/chunk-{number:03}.webm", b"c")
    s3.put(f"{Session('eve', 'metadata-only').prefix}/metadata.json", b"{}")
    s3.put(Session("eve", "empty").audio_key, b"")
    s3.put(Session("eve", "no-wav").audio_key, b"OggS" * 1000)
    return s3


def printed(edge: Edge, chosen: Filter | None = None, *, as_json: bool = False) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        dry_run(edge, chosen or Filter(), as_json)
    return out.getvalue()


def lines(edge: Edge, chosen: Filter | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(edge, chosen, as_json=True).splitlines()]


def test_golden_output(edge: Edge, full: S3Server) -> None:
    shown = printed(edge)
    # to write it anew: GOLDEN.write_text(shown, encoding="utf-8")
    assert shown == GOLDEN.read_text(encoding="utf-8")


def test_nothing_is_written_or_posted(edge: Edge, full: S3Server, runpod: RunpodServer) -> None:
    before = dict(full.objects)
    printed(edge)
    printed(edge, Filter(force=True), as_json=True)
    assert full.objects == before
    assert {method for method, _ in full.calls} == {"GET"}
    assert runpod.calls == []


def test_json_says_the_same(edge: Edge, full: S3Server) -> None:
    *sessions, last = lines(edge)
    found = {line["session"].rpartition("/")[2]: line for line in sessions}
    assert last["summary"]["sessions"] == {
        "submit": 8, "follow": 2, "done": 1, "not_merged": 1, "no_audio": 2, "failed_before": 1,
        "refused": 1,
    }  # fmt: skip
    assert "done" not in found
    assert found["new"] == {
        "session": "users/ada/audio/sessions/new",
        "need": "submit",
        "why": "new",
        "audio_bytes": 1_440_044,
        "audio_seconds": 90.0,
        "is_estimated": False,
        "job_id": None,
    }
    assert found["in-flight"]["job_id"] == "job-1"
    assert (found["no-wav"]["audio_seconds"], found["no-wav"]["is_estimated"]) == (2.0, True)
    assert found["chunks"]["audio_seconds"] is None
    assert last["summary"]["audio_seconds"] == 193.0
    assert last["summary"]["audio_seconds_followed"] == 602.0
    assert last["summary"]["gpu_seconds_estimated"] == pytest.approx(0.2 * 193 + 15 * 8)


def test_exit_code_tells_of_refusals(edge: Edge, s3: S3Server) -> None:
    s3.put(Session("u", "s").audio_key, b"x")
    assert dry_run(edge, Filter(), as_json=False) == 0
    assert dry_run(edge, Filter(sessions=(Session("u", "typo"),)), as_json=False) == 1


def test_bucket_where_all_is_done_says_so(edge: Edge) -> None:
    assert printed(edge) == "No sessions pending transcription\nalready done: 0\n"


def test_limit_is_said(edge: Edge, full: S3Server) -> None:
    text = printed(edge, Filter(limit=2))
    assert "would submit: 2 sessions, " in text
    assert text.endswith("the listing ended at --limit 2: there may be more\n")
    assert lines(edge, Filter(limit=2))[-1]["summary"]["ended_at_limit"] is True
    assert "--limit" not in printed(edge, Filter(limit=20))


def test_recording_that_cannot_be_read_ends_it_and_one_that_is_gone_is_estimated(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(Session("u", "s").audio_key, bytes(64_000))
    s3.refuse = lambda method, key: (404, "NoSuchKey") if key.endswith("audio.wav") else None
    (line, _) = lines(edge)
    assert (line["audio_seconds"], line["is_estimated"]) == (2.0, True)
    s3.refuse = lambda method, key: (403, "AccessDenied") if key.endswith("audio.wav") else None
    with pytest.raises(StorageRefused, match="403"):
        printed(edge)


def work(
    number: int, size_bytes: int = 100, action: PlannedAction = SUBMIT, **more: Any
) -> PlannedSession:
    session = Session("u", f"s{number}")
    audio = ObjectInfo(session.audio_key, '"e"', size_bytes, NOW)
    return PlannedSession(session, action, "new", audio, **more)


def exact(planned: PlannedSession) -> Length:
    """Ten bytes a second."""
    assert planned.audio is not None
    return Length(planned.audio.size_bytes / 10)


def test_first_recordings_are_measured_the_others_estimated_alike() -> None:
    sessions = [work(number, 100 * (number + 1)) for number in range(6)]
    asked: list[PlannedSession] = []

    def measure(planned: PlannedSession) -> Length:
        asked.append(planned)
        return exact(planned)

    found = list(measure_all(sessions, measure, at_most=4))
    assert [each.planned for each in found] == sessions
    assert {each.session for each in asked} == {each.session for each in sessions[:4]}
    assert [each.audio_s for each in found] == [10, 20, 30, 40, 50, 60]
    assert [each.is_about for each in found] == [False] * 4 + [True] * 2


def test_length_that_is_guessed_sets_no_rate() -> None:
    def measure(planned: PlannedSession) -> Length:
        guess = Length(7.0, is_estimate=True)
        return guess if planned.session.name == "s0" else exact(planned)

    found = measure_all([work(0), work(1), work(2)], measure, at_most=2)
    assert [(each.audio_s, each.is_about) for each in found] == [(7, True), (10, False), (10, True)]


HELD = StoredClaim(claim(duration_s=33.0), '"c"')


@pytest.mark.parametrize(
    ("planned", "audio_s", "is_about"),
    [
        (work(0, 64_000), 2.0, True),  # 32,000 bytes a second are assumed
        (work(0, action=FOLLOW, held=HELD), 33.0, False),
        (work(0, action=PlannedAction.FAILED_BEFORE), None, False),
    ],
)
def test_what_is_not_measured_has_the_best_length_that_is_known(
    planned: PlannedSession, audio_s: float | None, is_about: bool
) -> None:
    (found,) = measure_all([planned], lambda each: 1 / 0, at_most=0)
    assert (found.audio_s, found.is_about) == (audio_s, is_about)


def test_few_of_many_are_named() -> None:
    sums = Sums()
    for number in range(NAMED_AT_MOST + 1000):
        sums.add(MeasuredSession(work(number, action=PlannedAction.NOT_MERGED)))
    text = sums.text()
    assert text.count("users/") == NAMED_AT_MOST
    assert "not merged: 1,020 " in text
    assert "  and 1,000 more" in text


def test_cost_is_there_if_the_price_is_known_and_long_spans_are_hours() -> None:
    sums, free = Sums(price_per_s=Decimal("0.01")), Sums()
    sums.add(MeasuredSession(work(0), 25.0))
    free.add(MeasuredSession(work(0), 360_000.0))
    assert sums.facts()["cost_estimated"] == pytest.approx(0.2)
    assert "0.3 min, cost 0.20 (" in sums.text()
    assert free.facts()["cost_estimated"] is None
    assert "would submit: 1 session, 100.0 h of audio" in free.text()
    assert "GPU time, estimated: 20.0 h (" in free.text()


@pytest.mark.parametrize(
    ("size_bytes", "shown"),
    [(999, "999 B"), (1000, "1.0 kB"), (142_300_000, "142.3 MB"), (5 * 10**12, "5,000.0 GB")],
)
def test_sizes_are_short(size_bytes: int, shown: str) -> None:
    out = io.StringIO()
    show([MeasuredSession(work(0, size_bytes), 1.0)], Sums(), as_json=False, out=out)
    assert f"submit  {shown:>9}  " in out.getvalue()


def test_lines_come_as_sessions_are_found() -> None:
    out = io.StringIO()

    def found() -> Iterator[MeasuredSession]:
        for number in range(3):
            assert out.getvalue().count("users/") == number
            yield MeasuredSession(work(number), 1.0)

    show(found(), Sums(), as_json=False, out=out)
    assert out.getvalue().count("\n") == 1 + 3 + 4


def test_terminal_without_unicode_gets_what_it_can_show() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    planned = PlannedSession(Session("ü", "s"), SUBMIT, "new", work(0).audio)
    for as_json in (False, True):
        show([MeasuredSession(planned, 1.0)], Sums(), as_json, out)
    out.seek(0)
    text = out.read()
    assert "users/\\xfc/audio" in text
    assert json.loads(text.splitlines()[-2])["session"] == planned.session.prefix

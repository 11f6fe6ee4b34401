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

from edge_client.batch.dry_run import Measured, Sums, dry_run, measure_all, show
from edge_client.batch.results import NAMED_AT_MOST
from edge_client.batch.types import Filter, PlannedAction, PlannedSession
from edge_client.errors import StorageRefused
from edge_client.jobs.claim import StoredClaim
from edge_client.services.edge import Edge
from edge_client.services.presign import Length
from edge_client.session import Session
from edge_client.text import Printer
from tests.fakes.servers import RunpodServer, S3Server
from tests.unit.edge_client.samples import NOW, claim, planned, put_claim, session, transcript, wav

GOLDEN = Path(__file__).with_name("dry_run.txt")
BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
SUBMIT, FOLLOW = PlannedAction.SUBMIT, PlannedAction.FOLLOW


@pytest.fixture
def full(s3: S3Server) -> S3Server:
    """A bucket with a session of every kind."""

    def record(user: str, name: str, seconds: float = 4) -> Session:
        s3.put(Session(user, name).audio_key, wav(seconds))
        return Session(user, name)

    record("ada", "new", 90)
    record("ada", "ümläute + 100% (1)", 30)
    record("ada", "escape \x1b[31m", 1)
    s3.put(record("ada", "done", 2).result_key, transcript(), AFTER)
    s3.put(record("bob", "replaced", 60).result_key, transcript(), BEFORE)
    s3.put(record("bob", "transcript-empty", 2).result_key, b"", AFTER)
    put_claim(s3, record("bob", "in-flight"), duration_s=600.0)
    put_claim(s3, record("bob", "unanswered"), job_id=None)
    put_claim(s3, record("bob", "elsewhere"), endpoint_id="ep2")
    put_claim(s3, record("bob", "failed"), ended="AUDIO_UNREADABLE: no audio")
    put_claim(s3, record("bob", "away"), ended="STORAGE_UNAVAILABLE: S3 away")
    put_claim(s3, record("bob", "over"), submitted_at=BEFORE, expires_at=BEFORE)
    for number in range(17):
        s3.put(f"{Session('eve', 'chunks').prefix}/chunk-{number:03}.webm", b"c")
    s3.put(f"{Session('eve', 'metadata-only').prefix}/metadata.json", b"{}")
    s3.put(Session("eve", "empty").audio_key, b"")
    s3.put(Session("eve", "no-wav").audio_key, b"OggS" * 1000)
    return s3


def printed(edge: Edge, *, as_json: bool = False, **chosen: Any) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        dry_run(edge, Filter(**chosen), Printer(as_json))
    return out.getvalue()


def lines(edge: Edge, **chosen: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(edge, as_json=True, **chosen).splitlines()]


def test_golden_output_and_json_say_the_same_and_nothing_is_written_or_posted(
    edge: Edge, full: S3Server, runpod: RunpodServer
) -> None:
    shown = printed(edge)
    # to write it anew: GOLDEN.write_text(shown, encoding="utf-8")
    assert shown == GOLDEN.read_text(encoding="utf-8")
    *sessions, last = lines(edge)
    found = {line["session"].rpartition("/")[2]: line for line in sessions}
    counts = dict(zip(PlannedAction, (8, 2, 1, 1, 2, 1, 0, 1), strict=True))
    assert last["summary"]["sessions"] == counts
    assert "done" not in found
    new = found["new"]
    assert (new["need"], new["why"], new["audio_bytes"]) == ("submit", "new", 1_440_044)
    assert (new["audio_seconds"], new["is_estimated"], new["job_id"]) == (90.0, False, None)
    assert found["in-flight"]["job_id"] == "job-1"
    assert (found["no-wav"]["audio_seconds"], found["no-wav"]["is_estimated"]) == (2.0, True)
    assert found["chunks"]["audio_seconds"] is None
    assert last["summary"]["audio_seconds"] == 193.0
    assert last["summary"]["audio_seconds_followed"] == 602.0
    assert last["summary"]["gpu_seconds_estimated"] == pytest.approx(0.2 * 193 + 15 * 8)
    assert {method for method, _ in full.calls} == {"GET"}
    assert runpod.calls == []


def test_limit_is_said_and_the_exit_code_tells_of_refusals(edge: Edge, full: S3Server) -> None:
    assert dry_run(edge, Filter(sessions=(session(),)), Printer(False)) == 1
    assert dry_run(edge, Filter(limit=2), Printer(False)) == 0
    text = printed(edge, limit=2)
    assert "would submit: 2 sessions, " in text
    assert text.endswith("the listing ended at --limit 2: there may be more\n")
    assert lines(edge, limit=2)[-1]["summary"]["ended_at_limit"] is True
    assert "--limit" not in printed(edge, limit=20)


def test_unreadable_recording_is_estimated_and_refused_keys_end_it(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(Session("u", "s").audio_key, bytes(64_000))
    for status, code in ((404, "NoSuchKey"), (403, "AccessDenied"), (403, "InvalidAccessKeyId")):
        s3.refuse = lambda method, key, it=(status, code): it if key.endswith(".wav") else None
        if code != "InvalidAccessKeyId":
            (line, _) = lines(edge)
            assert (line["audio_seconds"], line["is_estimated"]) == (2.0, True)
    with pytest.raises(StorageRefused, match="403"):
        printed(edge)


def work(number: int, size: int = 100) -> PlannedSession:
    return planned(session(number), SUBMIT, size)


def exact(each: PlannedSession) -> Length:
    """Ten bytes a second; the first session's is a guess."""
    assert each.audio is not None
    return Length(each.audio.size_bytes / 10, is_estimate=each.session == session(0))


def test_what_is_not_measured_has_the_best_length_that_is_known_and_a_guess_sets_no_rate() -> None:
    sessions = [work(number, 100 * number) for number in range(1, 7)]
    found = list(measure_all(sessions, exact, at_most=4))
    assert [each for each, _ in found] == sessions
    lengths = [
        *(Length(10.0 * number) for number in range(1, 5)),
        Length(50, True),
        Length(60, True),
    ]
    assert [length for _, length in found] == lengths
    found = list(measure_all([work(0, 70), work(1), work(2)], exact, at_most=2))
    assert [length for _, length in found] == [Length(7, True), Length(10), Length(10, True)]
    followed = planned(session(), FOLLOW, held=StoredClaim(claim(duration_s=33.0), '"c"'))
    failed = planned(session(), PlannedAction.FAILED_BEFORE)
    found = list(measure_all([work(0, 64_000), followed, failed], lambda _: 1 / 0, at_most=0))
    # 32,000 bytes a second are assumed
    assert [length for _, length in found] == [Length(2, True), Length(33), None]


def test_cost_is_there_if_the_price_is_known_and_long_spans_are_hours() -> None:
    sums, free = Sums(price_per_s=Decimal("0.01")), Sums()
    sums.add(work(0), Length(25.0))
    free.add(work(0), Length(360_000.0))
    assert sums.facts()["cost_estimated"] == pytest.approx(0.2)
    assert "0.3 min, cost 0.20 (" in sums.text()
    assert free.facts()["cost_estimated"] is None
    assert "would submit: 1 session, 100.0 h of audio" in free.text()
    assert "GPU time, estimated: 20.0 h (" in free.text()


def test_lines_come_as_sessions_are_found_on_any_terminal_and_few_of_many_are_named() -> None:
    out = io.TextIOWrapper(buffer := io.BytesIO(), "ascii", errors="backslashreplace")
    odd = Session("ü", "s")

    def found() -> Iterator[Measured]:
        for kind in [SUBMIT] + [PlannedAction.NOT_MERGED] * (NAMED_AT_MOST + 1000):
            yield planned(odd, kind), None
            out.flush()
            assert b"users/" in buffer.getvalue()

    with contextlib.redirect_stdout(out):
        for as_json in (False, True):
            show(found(), Sums(), Printer(as_json))
    out.seek(0)
    text = out.read()
    assert text.count("users/\\xfc/audio") == 1 + NAMED_AT_MOST
    assert "  and 1,000 more" in text
    assert json.loads(text.splitlines()[-2])["session"] == odd.prefix

"""Plain lines for logs, JSON lines for programs, and who gets which."""

import io
import json
import sys
from pathlib import Path

import pytest

from edge_client.batch.progress import (
    STATUS_EVERY_S,
    CountingView,
    JsonLinesView,
    LiveView,
    PlainView,
    print_summary,
    view_for_batch,
)
from edge_client.batch.report import ReportFile
from edge_client.batch.types import BatchView, Need
from edge_client.jobs.claim import Attempt
from edge_client.jobs.poll import JobProgress
from edge_client.session import Session
from edge_client.text import audio_length, clock_time, safe_line, visible
from tests.unit.edge_client.batch.viewing import (
    NASTY,
    NASTY_SEEN,
    PRICE,
    Terminal,
    claim_of,
    item,
    record,
    session,
)
from tests.unit.edge_client.samples import FakeClock

PREFIX = "users/u1/audio/sessions/s1"


def test_line_for_each_submission_end_and_note(clock: FakeClock) -> None:
    out = io.StringIO()
    view = PlainView(out, clock)
    view.submitted(session(), claim_of(session(), clock))
    clock.sleep(3)
    again = (Attempt(request_id="r0", job_id="j0", ended="lost"),)
    view.submitted(session(), claim_of(session(), clock, job_id=None, earlier=again))
    view.note("the network is away")
    view.ended(record(session(), audio_s=90.0, segments=1117, speakers=2, warnings=("NO_SPEECH",)))
    view.ended(record(session(2), "failed", code="OUT_OF_MEMORY", message="no room"))
    view.listed(item(session(3)))
    view.ended(record(session(3)))
    assert out.getvalue().splitlines() == [
        f"2026-11-01 12:00:00Z submitted: {PREFIX}: job job-1",
        f"2026-11-01 12:00:03Z submitted: {PREFIX}: its answer is not known (submission 2)",
        "2026-11-01 12:00:03Z the network is away",
        f"2026-11-01 12:00:03Z done: {PREFIX}: 1.5 min of audio, 1,117 segments, 2 speakers, "
        "warnings: NO_SPEECH",
        "2026-11-01 12:00:03Z failed: users/u1/audio/sessions/s2: OUT_OF_MEMORY: no room",
        "2026-11-01 12:00:03Z done: users/u1/audio/sessions/s3: done",
    ]


def test_sessions_without_work_are_left_to_the_summary_and_the_report(clock: FakeClock) -> None:
    out = io.StringIO()
    view = PlainView(out, clock)
    view.listed(item(session(), Need.NOT_MERGED, "3 chunks"))
    view.ended(record(session(), "not_merged"))
    assert out.getvalue() == ""
    view.listed(item(session(2)))
    view.ended(record(session(2), "no_audio"))
    assert "no_audio: users/u1/audio/sessions/s2: said so" in out.getvalue()


def test_polls_print_the_counts_every_half_minute_at_most(clock: FakeClock) -> None:
    out = io.StringIO()
    view = PlainView(out, clock)
    view.submitted(session(), claim_of(session(), clock))
    for _ in range(100):
        clock.sleep(1)
        view.show(session(), JobProgress("running", "align", 50.0))
    lines = out.getvalue().splitlines()[1:]
    assert len(lines) == 100 // STATUS_EVERY_S
    assert "0 queued, 1 running, 0 done, 0 failed; 0 sessions so far, listing" in lines[0]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_lines_are_safe_on_every_stream(clock: FakeClock, encoding: str) -> None:
    out = Terminal(encoding)
    view = PlainView(out, clock)
    odd = Session("u1", NASTY + "漢")
    view.submitted(odd, claim_of(odd, clock))
    view.ended(record(odd, "failed", message=NASTY))
    view.note(f"{NASTY} Bearer abcdef")
    assert len(out.text.splitlines()) == 3
    assert out.text.count(NASTY_SEEN) == 2
    assert "\x1b" not in out.text
    assert "abcdef" not in out.text
    assert ("漢" in out.text) == (encoding == "utf-8")


def test_json_lines_are_one_object_a_session_and_nothing_else(clock: FakeClock) -> None:
    out, stream = io.StringIO(), io.StringIO()
    view = JsonLinesView(out, stream, clock)
    odd = Session("u1", NASTY)
    view.listed(item(odd))
    view.submitted(odd, claim_of(odd, clock))
    view.show(odd, JobProgress("running"))
    view.note(f"away {NASTY}")
    view.ended(record(odd, "failed", code="CODE", submissions=("lost", "CODE")))
    [line] = out.getvalue().splitlines()
    assert line.isascii()
    facts = json.loads(line)
    assert (facts["session"], facts["result"], facts["code"]) == (odd.prefix, "failed", "CODE")
    assert facts["submissions"] == ["lost", "CODE"]
    assert facts["at"] == "2026-11-01T12:00:00+00:00"
    assert stream.getvalue() == r"away [bold]\x1b[2J\x9b31m\u202e name" + "\n"


def test_summary_is_the_last_json_line(clock: FakeClock) -> None:
    out = io.StringIO()
    view = JsonLinesView(out, io.StringIO(), clock)
    view.listed(item(session()))
    view.ended(record(session()))
    print_summary(view.summary(), as_json=True, out=out)
    first, last = map(json.loads, out.getvalue().splitlines())
    assert first["result"] == "done"
    assert last["summary"]["succeeded"] == 1


def test_summary_is_safe_where_letters_are_missing(clock: FakeClock) -> None:
    out = Terminal("ascii")
    view = CountingView(clock)
    odd = Session("u1", f"{NASTY}漢")
    view.listed(item(odd))
    view.ended(record(odd, "failed", message=NASTY))
    print_summary(view.summary(), as_json=False, out=out)
    assert rf"{NASTY_SEEN}\u6f22" in out.text


def test_view_is_live_on_a_terminal_plain_elsewhere_and_lines_for_programs(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chosen(stream: io.TextIOBase, as_json: bool = False) -> type[BatchView]:
        with view_for_batch(as_json, clock, PRICE, None, stream) as view:  # type: ignore[arg-type]
            return type(view)

    monkeypatch.setenv("TERM", "xterm")
    assert chosen(Terminal()) is LiveView
    assert chosen(io.StringIO()) is PlainView
    assert chosen(Terminal(), as_json=True) is JsonLinesView
    monkeypatch.setenv("TERM", "dumb")
    assert chosen(Terminal()) is PlainView


def test_json_view_writes_to_stdout_and_notes_to_stderr(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with view_for_batch(True, clock) as view:
        view.note("a note")
        view.ended(record(session()))
        print_summary(view.summary(), as_json=True)
    out, err = capsys.readouterr()
    assert [sorted(json.loads(line))[0] for line in out.splitlines()] == ["at", "summary"]
    assert err == "a note\n"


def test_every_end_is_in_the_report(clock: FakeClock, tmp_path: Path) -> None:
    path = tmp_path / "report"
    with ReportFile(path, clock) as report:
        view = CountingView(clock, report=report)
        view.ended(record(session(1)))
        view.ended(record(session(2), "failed"))
    assert [json.loads(line)["result"] for line in path.read_text().splitlines()] == [
        "done", "failed"
    ]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_said_once_and_does_not_end_the_batch(clock: FakeClock) -> None:
    out = io.StringIO()
    with ReportFile(Path("/dev/full"), clock) as report:
        view = PlainView(out, clock, report=report)
        for number in (1, 2, 3):
            view.listed(item(session(number)))
            view.ended(record(session(number)))
    view.listing_ended()
    summary = view.summary()
    assert out.getvalue().count("No space left on device; the batch goes on") == 1
    assert "the report lacks 3 of these sessions" in summary.text()
    assert (summary.succeeded, summary.exit_code) == (3, 1)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain name+%20 é 漢", "plain name+%20 é 漢"),
        ("\x00\x07\x1b\x7f", r"\x00\x07\x1b\x7f"),
        ("\x85\x9b", r"\x85\x9b"),
        ("a\u202eb\u200dc\ufeff", r"a\u202eb\u200dc\ufeff"),
        ("\ud800", r"\ud800"),
        ("line\r\nline", r"line\r\nline"),
    ],
)
def test_what_cannot_be_seen_is_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


def test_amounts_are_as_people_say_them() -> None:
    assert audio_length(5400) == "90.0 min of audio"
    assert audio_length(7_200_000) == "2,000.0 h of audio"
    assert clock_time(36_061.9) == "10:01:01"
    assert clock_time(-5) == "0:00:00"
    assert safe_line("a  b\nc" + 400 * "x").endswith("…")

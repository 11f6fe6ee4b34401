"""What is shown of a batch: a table on any terminal, lines in a log, JSON lines for programs."""

import contextlib
import io
import json
import re
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.live_render import LiveRender

from edge_client.batch.progress import (
    COUNTS_EVERY_S,
    REFRESHES_PER_S,
    BatchProgress,
    JsonProgress,
    LiveProgress,
    PlainProgress,
    progress_for,
)
from edge_client.batch.results import ReportFile
from edge_client.batch.types import PlannedAction
from edge_client.jobs.claim import Attempt
from edge_client.jobs.poll import JobProgress
from edge_client.session import Session
from edge_client.text import Printer
from tests.unit.edge_client.samples import FakeClock, claim_of, end, planned, record, session, start

PREFIX = "users/u1/audio/sessions/s1"
NASTY = "[bold]\x1b[2J\x9b31m\u202e\nname"
NASTY_SEEN = r"[bold]\x1b[2J\x9b31m\u202e\nname"
ODD = Session("u1", f"{NASTY} é漢")


class Terminal(io.TextIOWrapper):
    """A terminal as the command line makes it, which knows what was written."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding, errors="backslashreplace", newline="\n")

    def isatty(self) -> bool:
        """Tell that it is one."""
        return True

    @property
    def text(self) -> str:
        """Everything so far."""
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)


class Live(LiveProgress):
    """A live table on a terminal of some size, drawn when a test asks for it."""

    def __init__(self, clock: FakeClock, encoding: str = "utf-8", **size: int) -> None:
        self.out, size = Terminal(encoding), {"width": 100, "height": 24} | size
        self.console = Console(file=self.out, force_terminal=True, color_system=None, **size)
        super().__init__(self.console, clock)

    def drawn(self) -> list[str]:
        """Draw the table; return all lines so far."""
        self.console.print(LiveRender(self, vertical_overflow="crop"))
        return self.out.text.splitlines()


def test_log_has_submissions_ends_notes_and_counts_every_half_minute(clock: FakeClock) -> None:
    out = io.StringIO()
    batch = PlainProgress(out, clock)
    batch.submitted(session(), claim_of(session(), clock))
    clock.sleep(3)
    again = (Attempt(request_id="r0", job_id="j0", ended="lost"),)
    batch.submitted(session(), claim_of(session(), clock, job_id=None, earlier=again))
    batch.note("the network is away")
    batch.ended(record(session(), audio_s=90.0, segments=1117, speakers=2, warnings=("NO_SPEECH",)))
    end(batch, session(2), "failed", code="OUT_OF_MEMORY", message="no room")
    end(batch, session(3))
    end(batch, session(4), "not_merged")  # left to the summary: there was no work
    assert out.getvalue().splitlines() == [
        f"2026-11-01 12:00:00Z submitted: {PREFIX}: job job-1",
        f"2026-11-01 12:00:03Z submitted: {PREFIX}: its job is not known yet (submission 2)",
        "2026-11-01 12:00:03Z the network is away",
        f"2026-11-01 12:00:03Z done: {PREFIX}: 1.5 min of audio, 1,117 segments, 2 speakers, "
        "warnings: NO_SPEECH",
        "2026-11-01 12:00:03Z failed: users/u1/audio/sessions/s2: OUT_OF_MEMORY: no room",
        "2026-11-01 12:00:03Z done: users/u1/audio/sessions/s3: done",
    ]
    batch.submitted(session(5), claim_of(session(5), clock))
    for _ in range(100):
        clock.sleep(1)
        batch.polled(session(5), JobProgress("running", "align", 50.0))
    lines = out.getvalue().splitlines()[7:]
    assert len(lines) == 100 // COUNTS_EVERY_S
    assert "1 running, 2 done, 1 failed, 1 not merged; 3 sessions found so far" in lines[0]


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp437"])
@pytest.mark.parametrize("width", [None, 50, 120])
def test_text_is_safe_on_every_stream(clock: FakeClock, encoding: str, width: int | None) -> None:
    live, out = Live(clock, encoding, width=width or 100), Terminal(encoding)
    batch = live if width else PlainProgress(out, clock)
    batch.stats.listed(planned(ODD))
    batch.submitted(ODD, claim_of(ODD, clock))
    batch.polled(ODD, JobProgress("running", "align", 50.0))
    drawn = "\n".join(live.drawn()) if width else ""
    batch.note(f"{NASTY} Bearer abcdef")
    batch.ended(record(ODD, "failed", message=NASTY))
    with contextlib.redirect_stdout(out):
        batch.summary().show(Printer(as_json=False))
    text = live.out.text + out.text
    assert not [c for c in text if c != "\n" and unicodedata.category(c).startswith("C")]
    assert (r"\x9b31m\u202e\nname" in drawn) == bool(width)
    assert text.count(f"failed: {ODD.prefix.rpartition('/')[0]}/{NASTY_SEEN}") == 1
    assert "abcdef" not in text
    assert ("漢" in text, r"\u6f22" in text) == (encoding == "utf-8", encoding != "utf-8")


def test_json_is_one_object_a_session_and_the_summary_and_notes_go_to_stderr(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_for(True, clock) as batch:
        batch.submitted(ODD, claim_of(ODD, clock))
        batch.note(f"away {NASTY}")
        batch.ended(record(ODD, "failed", code="CODE", submissions=("lost", "CODE")))
        batch.summary().show(Printer(as_json=True))
    out, err = capsys.readouterr()
    assert out.isascii()
    facts, last = map(json.loads, out.splitlines())
    assert (facts["session"], facts["result"], facts["code"]) == (ODD.prefix, "failed", "CODE")
    assert facts["submissions"] == ["lost", "CODE"]
    assert last["summary"]["failed"] == 1
    assert err == r"away [bold]\x1b[2J\x9b31m\u202e name" + "\n"


def test_display_is_chosen_by_its_output(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def chosen(stream: Any, as_json: bool = False) -> type[BatchProgress]:
        monkeypatch.setattr(sys, "stderr", stream)
        with progress_for(as_json, clock) as batch:
            return type(batch)

    monkeypatch.setenv("TERM", "xterm")
    assert chosen(Terminal()) is LiveProgress
    assert chosen(io.StringIO()) is PlainProgress
    assert chosen(Terminal(), as_json=True) is JsonProgress
    monkeypatch.setenv("TERM", "dumb")
    assert chosen(Terminal()) is PlainProgress


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_said_once_and_does_not_end_the_batch(clock: FakeClock) -> None:
    out = io.StringIO()
    with ReportFile(Path("/dev/full"), clock) as report:
        batch = PlainProgress(out, clock, None, report)
        for number in (1, 2, 3):
            batch.ended(record(session(number)))
    batch.stats.is_listing = False
    summary = batch.summary()
    assert out.getvalue().count("No space left on device; the batch goes on") == 1
    assert "the report lacks 3 of these sessions" in summary.text()
    assert (summary.succeeded, summary.exit_code) == (3, 1)


def test_counts_are_above_the_running_jobs_and_what_failed_above_them(clock: FakeClock) -> None:
    live = Live(clock, width=110)
    start(live, clock, 5, running=1)
    live.stats.listed(planned(session(10)))
    clock.sleep(75)
    live.polled(session(2), JobProgress("running", "transcribe", 40.0, left_s=740))
    live.ended(record(session(0), audio_s=9000.0))
    end(live, session(5), "not_merged")
    live.note("the network [bold]is[/bold] away")
    end(live, session(6), "lost", code="forgotten")
    note, lost, counts, totals, _, row, *others = live.drawn()
    assert note == "the network [bold]is[/bold] away"
    assert lost == "lost: users/u1/audio/sessions/s6: forgotten: said so"
    assert [line.split()[0] for line in others[:3]] == [f"s{n}" for n in (4, 1, 3)]
    cells = ["s2", "running", "transcribe", "━━━━━━", "40", "0:01:15", "about 12 min left"]
    assert [cell for cell in cells if cell not in row] == []
    assert counts == "1 waiting, 2 queued, 2 running, 1 done, 1 failed, 1 not merged"
    assert "8 sessions found so far, 2.5 h of audio done" in totals
    live.stats.is_listing = False
    live.drawn()
    assert "8 sessions in all" in live.out.text


@pytest.mark.parametrize(
    ("width", "height", "least_rows"),
    [(20, 10, 0), (40, 10, 3), (64, 24, 15), (97, 24, 15), (200, 24, 15), (100, 4, 1)],
)
def test_table_never_outgrows_the_terminal_and_all_jobs_are_counted(
    clock: FakeClock, width: int, height: int, least_rows: int
) -> None:
    live = Live(clock, width=width, height=height)
    start(live, clock, 60, running=50)
    lines = live.drawn()
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width
    assert "50 running," in " ".join(" ".join(lines).split())
    rows = sum(re.match(r"s\d", line) is not None for line in lines)
    assert rows >= least_rows


@pytest.mark.parametrize(
    ("users", "width", "shown"),
    [
        (("u1",), 64, "session_2025-12-15T02_47_34_213Z  "),
        (("u1",), 110, "session_2025-12-15T02_47_34_213Z  "),
        (("u1", "u2"), 120, "u1/session_2025-12-15T02_47_34_213Z  "),
        (("u1", "u2"), 40, "…25-12-15T02_47_34_213Z  "),
    ],
)
def test_table_shows_the_end_of_names_and_users_where_there_are_several(
    clock: FakeClock, users: tuple[str, ...], width: int, shown: str
) -> None:
    live = Live(clock, width=width)
    for user in users:
        which = Session(user, "session_2025-12-15T02_47_34_213Z")
        live.submitted(which, claim_of(which, clock))
    assert [line for line in live.drawn() if line.startswith(shown)]


class Changing(dict[Any, Any]):
    """A dict that another thread changes: who goes through it sees it change size."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("dictionary changed size during iteration")

    keys = values = items = __iter__  # type: ignore[assignment]

    def copy(self) -> dict[Any, Any]:
        """Copy it at one go."""
        return dict(dict.items(self))


def test_drawing_thread_never_goes_through_what_changes_meanwhile(clock: FakeClock) -> None:
    live = Live(clock)
    start(live, clock, 4)
    clock.sleep(60)
    live.ended(record(session(3)))
    for name in ("jobs", "results", "actions", "_open"):
        setattr(live.stats, name, Changing(getattr(live.stats, name)))
    live.stats.actions.setdefault(PlannedAction.DONE, 0)
    live.drawn()
    assert "3 queued, 0 running, 1 done" in live.out.text
    assert "left for these" in live.out.text


def test_live_table_waits_for_no_note_and_leaves_stdout_alone(
    clock: FakeClock, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Live(clock)
    with live.live() as drawing:
        redraw = threading.Thread(target=lambda: [drawing.refresh() for _ in range(50)])
        redraw.start()
        for number in range(50):
            start(live, clock, 3)
            live.note(f"note {number}")
        redraw.join()
        print("a result")  # noqa: T201 - what is tested
        assert drawing.refresh_per_second == REFRESHES_PER_S <= 4
    assert "note 49" in live.out.text
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in live.out.text

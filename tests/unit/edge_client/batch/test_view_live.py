"""The live table: what is in flight, on any terminal, whatever the sessions are called."""

import io
import threading
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from rich.cells import cell_len

from edge_client.batch.progress import REFRESHES_PER_S
from edge_client.batch.types import BatchView, Need
from edge_client.jobs.poll import JobProgress
from edge_client.session import Session
from tests.unit.edge_client.batch.viewing import (
    HOUR_OF_WAV,
    NASTY,
    NASTY_SEEN,
    claim_of,
    item,
    live_view,
    record,
    session,
)
from tests.unit.edge_client.samples import FakeClock


def put_out(view: BatchView, clock: FakeClock, count: int, running: int = 0) -> None:
    """Submit ``count`` sessions; the last ``running`` of them run."""
    for number in range(count):
        view.listed(item(session(number), size=HOUR_OF_WAV))
        view.submitted(session(number), claim_of(session(number), clock))
        state = "running" if number >= count - running else "queued"
        view.show(session(number), JobProgress(state, "align" if state == "running" else None))


def drawn(clock: FakeClock, count: int, running: int = 0, **terminal: int) -> list[str]:
    view, console, out = live_view(clock, **terminal)
    put_out(view, clock, count, running)
    console.print(view)
    return out.text.splitlines()


def test_row_shows_session_state_stage_percent_time_and_what_is_left(clock: FakeClock) -> None:
    view, console, out = live_view(clock, width=110)
    put_out(view, clock, 1)
    clock.sleep(75)
    view.show(session(0), JobProgress("running", "transcribe", 40.0, left_s=740))
    console.print(view)
    row = out.text.splitlines()[1]
    cells = ["u1/s0", "running", "transcribe", "━━━━━━", "40", "0:01:15", "about 12 min left"]
    assert [cell for cell in cells if cell not in row] == []


def test_left_is_estimated_from_the_percentages_where_nobody_says_it(clock: FakeClock) -> None:
    view, console, out = live_view(clock)
    put_out(view, clock, 1)
    for percent in (10.0, 20.0, 30.0):
        view.show(session(0), JobProgress("running", "align", percent))
        clock.sleep(60)
    console.print(view)
    assert "about 6 min left" in out.text


def test_running_jobs_come_first(clock: FakeClock) -> None:
    lines = drawn(clock, 5, running=2)
    assert [line.split()[0] for line in lines[1:6]] == [f"u1/s{n}" for n in (3, 4, 0, 1, 2)]


@pytest.mark.parametrize("width", [20, 40, 64, 80, 96, 200])
@pytest.mark.parametrize("height", [10, 24])
def test_table_never_outgrows_the_terminal(clock: FakeClock, width: int, height: int) -> None:
    lines = drawn(clock, 60, running=50, width=width, height=height)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


def test_jobs_without_a_row_are_counted(clock: FakeClock) -> None:
    lines = drawn(clock, 60, running=50, height=24)
    rows = [line for line in lines if line.startswith("u1/")]
    assert f"and {60 - len(rows)} more in flight" in [line.strip() for line in lines]
    assert len(rows) >= 15


def test_terminal_without_room_for_rows_still_has_the_counts(clock: FakeClock) -> None:
    lines = drawn(clock, 60, running=50, height=4)
    assert len(lines) <= 4
    assert not any(line.startswith(("u1/", "session ")) for line in lines)
    assert any("50 running" in line for line in lines)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "ascii", "cp437"])
@pytest.mark.parametrize("width", [50, 120])
def test_nasty_names_are_written_out(clock: FakeClock, encoding: str, width: int) -> None:
    view, console, out = live_view(clock, width, encoding=encoding)
    odd = Session("u1", f"{NASTY} é漢")
    view.listed(item(odd))
    view.submitted(odd, claim_of(odd, clock))
    view.show(odd, JobProgress("running", "align", 50.0))
    console.print(view)
    assert r"u1/[bold]\x1b[2J" in out.text
    view.note(f"about {odd.name}")
    view.ended(record(odd, "failed", message=f"no {NASTY}"))
    assert not [c for c in out.text if c != "\n" and unicodedata.category(c).startswith("C")]
    assert f"failed: users/u1/audio/sessions/{NASTY_SEEN}" in out.text


def test_counts_and_totals_stand_below(clock: FakeClock) -> None:
    view, console, out = live_view(clock)
    put_out(view, clock, 4, running=1)
    view.listed(item(session(10)))
    view.listed(item(session(11), Need.NOT_MERGED, "3 chunks"))
    view.ended(record(session(0), audio_s=9000.0))
    console.print(view)
    text = " ".join(out.text.split())
    assert "1 waiting, 2 queued, 1 running, 1 done, 0 failed, 1 not merged" in text
    assert "6 sessions so far, listing, 2.5 h of audio done" in text
    view.listing_ended()
    console.print(view)
    assert "6 sessions in all" in out.text


def test_batch_estimate_follows_the_pace_of_the_audio(clock: FakeClock) -> None:
    view, _, _ = live_view(clock)
    put_out(view, clock, 4)
    clock.sleep(360)
    assert view.tally.left_s() is None, "nothing is worked through: nobody knows"
    view.ended(record(session(0), audio_s=3600.0))
    view.show(session(1), JobProgress("running", "align", 50.0))
    # 1.5 h of audio in 360 s; 2.5 h are left
    assert view.tally.left_s() == pytest.approx(600.0)


def test_work_of_before_this_run_is_not_taken_for_its_pace(clock: FakeClock) -> None:
    view, _, _ = live_view(clock)
    earlier = claim_of(session(0), clock)
    clock.sleep(1000)
    view, _, _ = live_view(clock)
    view.listed(item(session(0), Need.FOLLOW))
    view.submitted(session(0), earlier)
    view.show(session(0), JobProgress("running", "align", 90.0))
    clock.sleep(60)
    view.show(session(0), JobProgress("running", "align", 92.0))
    # 2 % took 60 s, 8 % are left
    assert view.tally.left_s() == pytest.approx(240.0)


def test_pace_is_not_told_at_once(clock: FakeClock) -> None:
    view, _, _ = live_view(clock)
    put_out(view, clock, 2)
    clock.sleep(5)
    view.ended(record(session(0)))
    assert view.tally.left_s() is None


def test_failures_and_notes_are_said_above_the_table_successes_are_not(clock: FakeClock) -> None:
    view, _, out = live_view(clock)
    put_out(view, clock, 2)
    view.listed(item(session(5), Need.NOT_MERGED, "3 chunks"))
    view.ended(record(session(5), "not_merged"))
    view.note("the network [bold]is[/bold] away")
    view.ended(record(session(0)))
    view.ended(record(session(1), "lost", code="forgotten"))
    assert out.text.splitlines() == [
        "the network [bold]is[/bold] away",
        "lost: users/u1/audio/sessions/s1: forgotten: said so",
    ]


def test_only_what_is_open_is_kept(clock: FakeClock) -> None:
    view, _, _ = live_view(clock)
    for number in range(3000):
        put = session(number)
        view.listed(item(put))
        view.submitted(put, claim_of(put, clock))
        view.show(put, JobProgress("running"))
        view.ended(record(put, "failed" if number % 2 else "done"))
    assert not view.tally.jobs
    assert not view.tally.waiting
    assert view.tally.results == {"done": 1500, "failed": 1500}
    assert len(view.tally.named["failed"]) == 20


def test_poll_of_a_session_that_is_not_out_is_no_matter(clock: FakeClock) -> None:
    view, _, _ = live_view(clock)
    view.show(session(), JobProgress("running"))
    assert not view.tally.jobs


class Changing(dict[Any, Any]):
    """A dict that another thread changes: who goes through it sees it change size."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("dictionary changed size during iteration")

    keys = values = items = __iter__  # type: ignore[assignment]

    def copy(self) -> dict[Any, Any]:
        """Copy it at one go."""
        return dict(dict.items(self))


def test_drawing_thread_never_goes_through_what_changes_meanwhile(clock: FakeClock) -> None:
    view, console, out = live_view(clock)
    put_out(view, clock, 4)
    view.listed(item(session(9)))
    clock.sleep(60)
    view.ended(record(session(3)))
    for name in ("jobs", "results", "needs", "_open"):
        setattr(view.tally, name, Changing(getattr(view.tally, name)))
    view.tally.needs.setdefault(Need.DONE, 0)
    console.print(view)
    assert "1 waiting, 3 queued, 0 running, 1 done" in out.text
    assert "left for these" in out.text


def test_live_table_and_notes_do_not_wait_for_each_other(clock: FakeClock) -> None:
    view, console, out = live_view(clock)
    with view.live() as live:
        redraw = threading.Thread(target=lambda: [live.refresh() for _ in range(50)])
        redraw.start()
        for number in range(50):
            put_out(view, clock, 3)
            view.note(f"note {number}")
        redraw.join()
        assert live.refresh_per_second == REFRESHES_PER_S <= 4
    assert "note 49" in out.text


def test_stdout_is_left_alone(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> None:
    view, _, out = live_view(clock)
    with view.live():
        print("a result")  # noqa: T201 - what is tested
    assert capsys.readouterr().out == "a result\n"
    assert "a result" not in out.text
    assert isinstance(out, io.TextIOWrapper)

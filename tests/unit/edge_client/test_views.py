"""Progress: a live line on a terminal, plain lines when not, nothing for programs."""

import io

import pytest
from rich.console import Console

from edge_client.jobs.poll import JobProgress
from edge_client.output import (
    LiveView,
    PlainView,
    QuietView,
    live_progress,
    progress_as_text,
    remaining,
    view_for,
)


def test_plain_view_prints_only_news() -> None:
    out = io.StringIO()
    view = PlainView(out)
    for percent in (None, 1.0, 2.0, 9.9, 10.0, 12.0, 55.0):
        stage = None if percent is None else "transcribe"
        view.show(JobProgress("running", stage, percent))
    assert out.getvalue().splitlines() == [
        "running", "transcribe 1 %", "transcribe 10 %", "transcribe 55 %"
    ]  # fmt: skip


def test_view_without_a_terminal_is_plain() -> None:
    with view_for(False, io.StringIO()) as view:
        assert type(view) is PlainView


def test_view_for_programs_shows_notes_alone() -> None:
    out = io.StringIO()
    with view_for(True, out) as view:
        assert type(view) is QuietView
        view.show(JobProgress("running"))
        view.note("the network is away")
    assert out.getvalue() == "the network is away\n"


def test_live_line_shows_stage_percent_and_time() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with live_progress(console) as progress:
        view = LiveView(progress)
        view.show(JobProgress("queued"))
        view.show(JobProgress("running", "transcribe", 40.0))
        progress.refresh()
        view.note("[bold]not markup[/bold]")
    text = out.getvalue()
    assert "transcribe" in text
    assert "40 %" in text
    assert "0:00:0" in text
    assert "[bold]not markup" in text


def test_terminal_gets_the_live_line() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    with view_for(False, Terminal()) as view:
        assert type(view) is LiveView


@pytest.mark.parametrize(
    ("left_s", "said"),
    [
        (0, "about 5 s left"),
        (33, "about 35 s left"),
        (56, "about 1 min left"),
        (740, "about 12 min left"),
        (9000, "about 2.5 h left"),
    ],
)
def test_estimates_are_as_coarse_as_they_are_known(left_s: float, said: str) -> None:
    assert remaining(left_s) == said


def test_live_line_shows_the_estimate() -> None:
    out = io.StringIO()
    with live_progress(Console(file=out, force_terminal=True, width=100)) as progress:
        LiveView(progress).show(JobProgress("running", "align", 50.0, 740.0))
        progress.refresh()
    assert "about 12 min left" in out.getvalue()


def test_words_of_a_glimpse() -> None:
    assert (
        progress_as_text(JobProgress("running", "align", 70.4, 30)) == "align 70 %, about 30 s left"
    )
    assert progress_as_text(JobProgress("queued")) == "queued"
    assert progress_as_text(JobProgress("running", "align", 70.4)) == "align 70 %"

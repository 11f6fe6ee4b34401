"""Progress: a live line on a terminal, plain lines when not, nothing for programs."""

import io
import re
import sys

import pytest

from edge_client import output
from edge_client.jobs.poll import JobProgress


def test_plain_view_prints_only_news() -> None:
    out = io.StringIO()
    view = output.PlainView(out)
    for percent in (None, 1.0, 2.0, 9.9, 10.0, 12.0, 55.0):
        stage = None if percent is None else "transcribe"
        view.show(JobProgress("running", stage, percent))
    assert out.getvalue().splitlines() == [
        "running", "transcribe 1 %", "transcribe 10 %", "transcribe 55 %"
    ]  # fmt: skip


def test_terminal_gets_the_live_line_a_pipe_plain_ones_and_a_program_notes_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    with output.view_for(False, out) as view:
        assert type(view) is output.PlainView
    out.isatty = lambda: True  # type: ignore[method-assign]
    with output.view_for(True, out) as view:
        view.show(JobProgress("running"))
        view.note("the network is away")
    assert out.getvalue() == "the network is away\n"
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with output.view_for(False, out) as view:
        view.show(JobProgress("queued"))
        view.show(JobProgress("running", "transcribe", 40.0, 740.0))
        view.note("[bold]not markup[/bold]")
    for shown in ("transcribe", "40 %", "0:00:0", "about 12 min left", "[bold]not markup"):
        assert shown in out.getvalue()


@pytest.mark.parametrize("no_color", ["", "1"])
def test_no_color_is_respected(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    out.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)
    with output.view_for(False, out) as view:
        view.show(JobProgress("running", "transcribe", 40.0))
    assert bool(re.search(r"\x1b\[[\d;]*3\d", out.getvalue())) != bool(no_color)


def test_an_upload_has_a_bar_on_a_terminal_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    for is_terminal, as_json in ((False, False), (True, True)):
        out.isatty = lambda is_terminal=is_terminal: is_terminal  # type: ignore[method-assign, misc]
        with output.upload_bar(as_json, 10) as moved:
            moved(5)
    assert out.getvalue() == ""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    with output.upload_bar(False, 700_000_000) as moved:
        moved(400_000_000)
        moved(-50_000_000)
    assert "350.0/700.0 MB" in out.getvalue()


@pytest.mark.parametrize(
    ("percent", "left_s", "text"),
    [
        (None, None, "align"),
        (70.4, None, "align 70 %"),
        (70.4, 0, "align 70 %, about 5 s left"),
        (70.4, 33, "align 70 %, about 35 s left"),
        (70.4, 56, "align 70 %, about 1 min left"),
        (70.4, 740, "align 70 %, about 12 min left"),
        (70.4, 9000, "align 70 %, about 2.5 h left"),
    ],
)
def test_progress_is_short_and_an_estimate_as_coarse_as_it_is_known(
    percent: float | None, left_s: float | None, text: str
) -> None:
    assert output.progress_as_text(JobProgress("running", "align", percent, left_s)) == text

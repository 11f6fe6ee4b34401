"""A person's way from a file on the desk to subtitles and a page, typed into a real terminal.

With ``--screenshots DIR`` it also takes the pictures that README.md and docs/page.md show.
"""

from __future__ import annotations

import codecs
import io
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pysubs2
import pytest
from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from devstack.stack import write_env_file
from edge_client.session import Session
from tests.e2e.conftest import ROOT, Bench
from tests.page.conftest import FLAGS, NAMES
from tests.recordings import telephone_speech, write_recording

COLUMNS, ROWS = 100, 30
MEETING = Session("local", "meeting")
OTHERS = [Session("local", f"session_2025-12-15T02_{n:02}_34_213Z") for n in range(49)]
PROMPT = r"\[\e]133;D;$?\a\]$ "
"""With the last exit code as terminals are told it: ``OSC 133 ; D ; CODE``."""
MOMENT = r"20\d\d-\d\d-\d\d \d\d:\d\d"
TOKEN = re.compile(r"\x1b\]133;D;(\d+)\x07|\x1b\[(\??[\d;]*)([AKhlm])|(\n|\r|[^\x00-\x1f\x7f])")


class Screen:
    """What a terminal shows: the few control sequences that are used here, and no other."""

    def __init__(self) -> None:
        self.lines: list[list[tuple[str, str]]] = [[]]
        self.codes: list[int] = []
        self.erased: list[str] = []
        self.has_cursor = True
        self._row, self._column, self._style, self._rest = 0, 0, "", ""

    def feed(self, text: str) -> None:
        """Draw what a program wrote; a sequence may come in two halves."""
        text, at = self._rest + text, 0
        while found := TOKEN.match(text, at):
            self._draw(*found.groups())
            at = found.end()
        self._rest = text[at:]
        assert len(self._rest) < 20, f"no terminal's text: {self._rest!r}"

    def _draw(self, code: str | None, given: str, sequence: str, char: str) -> None:
        if code:
            self.codes.append(int(code))
        elif given == "?25":
            self.has_cursor = sequence == "h"
        elif sequence == "A":
            self._row = max(0, len(self.lines) - ROWS, self._row - int(given or 1))
        elif sequence == "K":
            self.erased.append(self.text(self._row)[0])
            self.lines[self._row] = [] if given == "2" else self.lines[self._row][: self._column]
        elif sequence == "m":
            self._style = "" if given in ("", "0") else f"{self._style}\x1b[{given}m"
        elif char == "\r":
            self._column = 0
        elif char == "\n" or (char and self._column == COLUMNS):
            self._row += 1
            self.lines += [[]] * (self._row == len(self.lines))
        if char and char not in "\r\n":
            self._column %= COLUMNS
            line = self.lines[self._row]
            line += [("", " ")] * (self._column - len(line))
            line[self._column : self._column + 1] = [(self._style, char)]
            self._column += 1

    def text(self, first: int = 0) -> list[str]:
        """Return the lines from one on, without colours."""
        return ["".join(char for _, char in line).rstrip() for line in self.lines[first:]]

    def colours(self) -> Text:
        """Return what is in the window."""
        shown = ("".join(f"{s}{c}\x1b[0m" for s, c in line) for line in self.lines[-ROWS:])
        return Text.from_ansi("\n".join(shown))


class Terminal(Screen):
    """A shell in a pseudo-terminal of 100 x 30."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        super().__init__()
        self._fd, its = pty.openpty()
        termios.tcsetwinsize(its, (ROWS, COLUMNS))
        env = env | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PS1": PROMPT}
        shell = ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"]
        self._shell = subprocess.Popen(
            shell, cwd=folder, env=env, stdin=its, stdout=its, stderr=its
        )
        os.close(its)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._until_prompt()

    def run(self, command: str) -> list[str]:
        """Type a command that succeeds; return what is left of it when the prompt is back."""
        first, self.erased = len(self.lines), []
        os.write(self._fd, f"{command}\n".encode())
        self._until_prompt()
        lines = self.text(first)[:-1]
        assert self.codes[-1] == 0, lines
        assert self.has_cursor
        wrapped = "".join(line + "\n" * (len(line) < COLUMNS) for line in lines)
        return wrapped.splitlines()

    def end(self) -> None:
        """Leave the shell."""
        os.write(self._fd, b"exit\n")
        self._shell.wait(10)
        os.close(self._fd)

    def _until_prompt(self) -> None:
        before, deadline_s = len(self.codes), time.monotonic() + 120
        while len(self.codes) == before or not self.text()[-1].startswith("$"):
            assert time.monotonic() < deadline_s, self.text()
            if select.select([self._fd], [], [], 1)[0]:
                self.feed(self._decoder.decode(os.read(self._fd, 65536)))
        assert not self._rest, f"no terminal's text: {self._rest!r}"


@pytest.fixture
def terminal(bench: Bench, tmp_path: Path) -> Iterator[Terminal]:
    """A shell in a folder with ``.env`` and ``meeting.m4a``, whose browser notes what it opens."""
    write_env_file(tmp_path / ".env", bench.stack.env)
    write_recording(tmp_path / "meeting.m4a", telephone_speech(), encoding="m4a")
    browser = tmp_path / ".browser"
    browser.write_text('#!/bin/sh\necho "$1" > "$HOME/.opened"\n')
    browser.chmod(0o755)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = Terminal(
        tmp_path,
        {"PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "BROWSER": str(browser)},
    )
    yield made
    bench.printed.append("\n".join(made.text()))
    made.end()


def test_from_a_file_on_the_desk_to_subtitles_and_a_page(
    bench: Bench, terminal: Terminal, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    left = terminal.run("edge-client submit ./meeting.m4a --wait")
    check_progress(terminal.erased)
    prefix = MEETING.prefix
    assert re.fullmatch(
        rf"meeting.m4a goes to s3://recordings/{prefix}/audio.wav"
        rf" \(--user local --session meeting\)\n"
        rf"uploaded\nsubmitted: job \S+ for {prefix}\n"
        rf"done: {prefix}\n  30.0 s of audio \(en\), in \S+ s\n  \d+ segments, 2 speakers\n"
        rf"  s3://recordings/{prefix}/transcription.json \(\S+ bytes\)\n"
        rf"  read it: edge-client render {prefix} --format txt",
        "\n".join(left),
    ), left
    head, row, sums = terminal.run("edge-client list --user local")
    assert head == "state       recorded (UTC)         size  session"
    assert re.fullmatch(rf"done        {MOMENT}  +\d+\.\d kB  meeting", row)
    assert sums == "1 session: 1 done"
    _, row, job = terminal.run("edge-client status meeting")
    assert re.fullmatch(rf"done        {MOMENT} .* kB    0:00:30         2  en    {prefix}", row)
    assert job.endswith(" UTC: ended")
    left = terminal.run("edge-client view meeting -o meeting.html")
    assert left == [f"page of {prefix}: meeting.html"]
    page = tmp_path / "meeting.html"
    assert (tmp_path / ".opened").read_text() == f"{page.as_uri()}\n"
    export = "edge-client export --user local --format srt --format html -o transcripts"
    one = [f"transcripts/local/meeting.{form}" for form in ("srt", "html")]
    assert terminal.run(export) == [*one, "1 session: 1 exported, 0 unchanged, 0 failed"]
    if folder := request.config.getoption("--screenshots"):
        take_pictures(folder, terminal, page)

    body = bench.read(MEETING.result_key)
    for session in OTHERS:
        bench.put(session.audio_key, b"sound")
        bench.put(session.result_key, body)
    _, *rows, sums = terminal.run("edge-client list --user local")
    assert [row.split()[-1] for row in rows] == [each.name for each in (MEETING, *OTHERS)]
    assert {row.split()[0] for row in rows} == {"done"}
    assert sums == "50 sessions: 50 done"
    *files, sums = terminal.run(export)
    assert sums == "50 sessions: 49 exported, 1 unchanged, 0 failed"
    assert sorted([*one, *files]) == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.glob("transcripts/*/*")
    )
    assert len(files) == 2 * len(OTHERS)
    assert terminal.run(export) == ["50 sessions: 0 exported, 50 unchanged, 0 failed"]
    cues = pysubs2.load(str(tmp_path / files[0]))
    assert " ".join(cue.plaintext for cue in cues).count("Chicago") == 2
    assert (tmp_path / one[1]).read_text() == page.read_text()
    assert "Chicago" in page.read_text()


def check_progress(lines: list[str]) -> None:
    """There was a bar of the upload's bytes, then one of the job, which went on to its end."""
    assert any(re.match(r"upload ━+ .*\d/\d+\.\d kB", line) for line in lines), lines
    job = [re.match(r". (\w+) +[━╸╺ ]+ (\d+) % \d:\d\d:\d\d", line) for line in lines]
    seen = [(at[1], int(at[2])) for at in job if at]
    assert len(set(seen)) >= 3, lines
    assert [percent for _, percent in seen] == sorted(percent for _, percent in seen)
    assert seen[-1] == ("completed", 100)


def take_pictures(folder: Path, terminal: Screen, page: Path) -> None:
    """Picture the terminal as SVG, and the page in Chromium, with the sound, for desk and phone."""
    folder.mkdir(parents=True, exist_ok=True)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(terminal.colours())
    svg = console.export_svg(title="edge-client", theme=MONOKAI)
    svg = re.sub(r"@font-face {.*?}\s*", "", svg, flags=re.DOTALL)  # of another's server
    (folder / "terminal.svg").write_text(svg, encoding="utf-8")
    with sync_playwright() as playwright:
        found = next(filter(None, map(shutil.which, NAMES)))
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        for name, width, height, scheme in (
            ("page-desktop-light", 1280, 680, "light"),
            ("page-phone-dark", 390, 780, "dark"),
        ):
            size = {"width": width, "height": height}
            shown = browser.new_page(viewport=size, color_scheme=scheme)
            shown.goto(page.as_uri())
            shown.set_input_files("#file", page.with_name("meeting.m4a"))
            shown.get_by_role("button", name="Choose another recording").wait_for()
            shown.get_by_role("searchbox").fill("chicago")
            shown.get_by_text("Texas", exact=True).click()
            shown.screenshot(path=folder / f"{name}.png")
        browser.close()

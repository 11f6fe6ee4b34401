"""The report: one line a session, whole or marked as torn, read by the next run."""

import json
import os
import stat
from pathlib import Path

import pytest

from edge_client.batch.results import TORN, ReportFile, ReportLost, failed_in
from edge_client.errors import BadUsage
from edge_client.session import DEFAULT
from tests.unit.edge_client.samples import FakeClock, record, session


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.jsonl"


def write(path: Path, clock: FakeClock, *results: tuple[int, str]) -> None:
    with ReportFile(path, clock) as report:
        for number, result in results:
            report.add(record(session(number), result))


def failed(path: Path) -> list[str]:
    return [found.name for found in failed_in(path, DEFAULT)]


def test_line_is_written_at_once_for_the_owner_alone_and_two_runs_share_a_file(
    path: Path, clock: FakeClock
) -> None:
    with ReportFile(path, clock) as report:
        report.add(record(session(), "failed", warnings=("A", "B")))
        facts = json.loads(path.read_text())
    assert (facts["session"], facts["warnings"]) == (session().prefix, ["A", "B"])
    assert facts["ended_at"] == "2026-11-01T12:00:00+00:00"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("")  # an empty file needs no mark
    with ReportFile(path, clock) as one, ReportFile(path, clock) as other:
        for number in range(20):
            (one if number % 2 else other).add(record(session(number)))
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 20


@pytest.mark.parametrize("cut", [1, 2, 30, 59])
def test_torn_line_is_marked_later_and_read_past(path: Path, clock: FakeClock, cut: int) -> None:
    write(path, clock, (1, "failed"), (2, "failed"))
    os.truncate(path, path.stat().st_size - cut)
    is_whole_after_all = cut == 1
    assert failed(path) == (["s1", "s2"] if is_whole_after_all else ["s1"])
    write(path, clock, (3, "lost"), (1, "done"))
    lines = path.read_text().splitlines()
    assert [line.endswith(TORN) for line in lines] == [False, True, False, False]
    assert failed(path)[-1] == "s3"
    assert "s1" not in failed(path)


def test_line_that_is_not_whole_is_lost_and_marked(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_all = os.write
    with ReportFile(path, clock) as report:
        monkeypatch.setattr(os, "write", lambda fd, data: write_all(fd, data[:30]))
        with pytest.raises(ReportLost, match="no room"):
            report.add(record(session(1), "failed"))
        monkeypatch.setattr(os, "write", write_all)
        report.add(record(session(2), "failed"))
    assert path.read_text().splitlines()[0].endswith(TORN)
    assert failed(path) == ["s2"]


def test_last_line_of_a_session_says_if_it_is_tried_again(path: Path, clock: FakeClock) -> None:
    good = ["done", "skipped", "not_merged", "no_audio"]
    write(path, clock, *enumerate([*good, "failed", "in_flight", "refused", "of later"]))
    assert failed(path) == ["s4", "s5", "s6", "s7"]
    write(path, clock, (4, "done"), (0, "failed"), (5, "lost"))  # the same file is appended to
    assert failed(path) == ["s6", "s7", "s0", "s5"]


def test_file_or_line_that_cannot_be_used_is_a_usage_error(path: Path, clock: FakeClock) -> None:
    write(path, clock, (1, "failed"))
    good, elsewhere = path.read_bytes(), b'{"session": "elsewhere", "result": "failed"}'
    for line in (b"not json", b'{"result": "failed"}', elsewhere, good[:20], b"\xff\xfe", b""):
        path.write_bytes(good + line + b"\n" + good)
        with pytest.raises(BadUsage, match="line 2 is not a session's record"):
            failed_in(path, DEFAULT)
    for where in ("missing/report", "."):
        with pytest.raises(BadUsage, match="give a file that can be written"):
            ReportFile(path.parent / where, clock)
    with pytest.raises(BadUsage, match="No such file or directory: give the FILE"):
        failed_in(path.parent / "none", DEFAULT)

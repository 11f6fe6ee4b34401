"""The report: one line a session, whole or marked as torn, read by the next run."""

import json
import os
import stat
from pathlib import Path

import pytest

from edge_client.batch.report import TORN, ReportFile, ReportLost, failed_in
from edge_client.errors import BadUsage
from tests.unit.edge_client.batch.samples import record, session
from tests.unit.edge_client.samples import FakeClock


def write(path: Path, clock: FakeClock, *results: tuple[int, str]) -> None:
    with ReportFile(path, clock) as report:
        for number, result in results:
            report.add(record(session(number), result))


def numbers(path: Path) -> list[str]:
    return [found.name for found in failed_in(path)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "report.jsonl"


def test_line_has_the_record_and_when_it_was_written(path: Path, clock: FakeClock) -> None:
    with ReportFile(path, clock) as report:
        report.add(
            record(session(), "failed", message="two\nlines, Bearer abcdef", warnings=("A", "B"))
        )
        assert path.read_text().endswith("}\n"), "written at once"
    facts = json.loads(path.read_text())
    assert next(iter(facts)) == "session"
    assert facts["message"] == "two lines, Bearer ***"
    assert facts["warnings"] == ["A", "B"]
    assert facts["at"] == "2026-11-01T12:00:00+00:00"


def test_report_is_its_owners_alone_and_appended_to(path: Path, clock: FakeClock) -> None:
    write(path, clock, (1, "done"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    write(path, clock, (2, "failed"))
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_torn_line_is_marked_by_the_next_run_and_read_past(
    path: Path, clock: FakeClock, cut: int
) -> None:
    write(path, clock, (1, "failed"), (2, "failed"))
    os.truncate(path, path.stat().st_size - cut)
    whole_after_all = cut == 1
    assert numbers(path) == (["s1", "s2"] if whole_after_all else ["s1"])
    write(path, clock, (3, "lost"), (1, "done"))
    lines = path.read_text().splitlines()
    assert lines[1].endswith(TORN)
    assert numbers(path)[-1] == "s3"
    assert "s1" not in numbers(path)


def test_empty_file_needs_no_mark(path: Path, clock: FakeClock) -> None:
    path.touch()
    write(path, clock, (1, "done"))
    assert TORN not in path.read_text()


def test_two_runs_can_write_to_one_file(path: Path, clock: FakeClock) -> None:
    with ReportFile(path, clock) as one, ReportFile(path, clock) as other:
        for number in range(20):
            (one if number % 2 else other).add(record(session(number)))
    assert len([json.loads(line) for line in path.read_text().splitlines()]) == 20


@pytest.mark.parametrize("where", ["missing/report", "."])
def test_report_that_cannot_be_written_is_a_usage_error(
    tmp_path: Path, clock: FakeClock, where: str
) -> None:
    with pytest.raises(BadUsage, match="give a file that can be written"):
        ReportFile(tmp_path / where, clock)


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
    assert numbers(path) == ["s2"]


@pytest.mark.parametrize(
    ("result", "again"),
    [
        ("done", False),
        ("skipped", False),
        ("not_merged", False),
        ("no_audio", False),
        ("failed", True),
        ("lost", True),
        ("cancelled", True),
        ("in_flight", True),
        ("refused", True),
        ("failed_before", True),
        ("of a later version", True),
    ],
)
def test_what_is_tried_again(path: Path, clock: FakeClock, result: str, again: bool) -> None:
    write(path, clock, (1, result))
    assert numbers(path) == (["s1"] if again else [])


def test_last_line_of_a_session_counts(path: Path, clock: FakeClock) -> None:
    write(path, clock, (1, "failed"), (2, "done"), (3, "failed"), (1, "done"), (2, "lost"))
    assert numbers(path) == ["s3", "s2"]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b"null",
        b'{"result": "failed"}',
        b'{"session": "users/u1/audio/sessions/s1"}',
        b'{"session": "elsewhere", "result": "failed"}',
        b'{"session": 3, "result": "failed"}',
        b'{"session": "users/u1/audio/sessions/s1", "result": 1}',
        b'{"session": "users/u1/aud',
        b"\xff\xfe",
        b"",
    ],
)
def test_line_of_another_kind_is_an_error_that_names_it(
    path: Path, clock: FakeClock, line: bytes
) -> None:
    write(path, clock, (1, "failed"))
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())
    with pytest.raises(BadUsage, match="line 2 is not a session's record"):
        failed_in(path)


def test_missing_report_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="No such file or directory: give the FILE"):
        failed_in(tmp_path / "none")


def test_same_file_can_be_read_and_appended_to(path: Path, clock: FakeClock) -> None:
    write(path, clock, (1, "failed"), (2, "failed"))
    again = failed_in(path)
    with ReportFile(path, clock) as report:
        report.add(record(again[0], "done"))
    assert numbers(path) == ["s2"]

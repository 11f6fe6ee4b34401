"""`export`: which files are written, under which names, and what is left alone."""

import json
import os
import string
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_client.cli import run
from edge_client.session import Session, file_name
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import SESSION, transcript, wav

Capture = pytest.CaptureFixture[str]
OTHERS = [Session("u1", "Ann & Bob: 1+1"), Session("u2", "s1"), Session("u2", "..")]


@pytest.fixture
def bucket(s3: S3Server, env_file: Path) -> S3Server:
    """Four sessions with transcripts, one with none."""
    for each in (SESSION, *OTHERS):
        s3.put(each.audio_key, wav(2))
        s3.put(each.result_key, transcript())
    s3.put(Session("u2", "new").audio_key, wav(2))
    return s3


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def test_each_transcript_becomes_a_file_in_each_format(
    bucket: S3Server, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert run(["export", "--format", "srt", "--format", "txt", "-o", str(out)]) == 0
    printed, err = capsys.readouterr()
    written = files(out)
    assert sorted(printed.splitlines()) == sorted(str(out / name) for name in written)
    assert "4 sessions: 4 exported, 0 unchanged, 0 failed" in err
    assert {name.rpartition(".")[0] for name in written} == {
        f"{each.user}/{file_name(each.name)}" for each in (SESSION, *OTHERS)
    }
    assert run(["render", SESSION.prefix, "--format", "srt"]) == 0
    assert written["u1/s1.srt"].decode() == capsys.readouterr().out
    assert len(written) == 8


def test_files_as_new_as_their_transcripts_are_left_alone(
    bucket: S3Server, tmp_path: Path, capsys: Capture
) -> None:
    command = ["export", "--user", "u2", "--format", "md", "--json"]
    assert run(command) == 0
    before = files(tmp_path / "u2")
    edited = tmp_path / "u2/s1.md"
    edited.write_text("mine")
    bucket.calls.clear()
    assert run(command) == 0
    assert {key for _, key in bucket.calls} == {""}
    assert edited.read_text() == "mine"
    bucket.put(OTHERS[1].result_key, transcript(), bucket.now + timedelta(days=900))
    os.utime(tmp_path / "u2" / f"{file_name('..')}.md", (0, 0))
    capsys.readouterr()
    assert run([*command, "--format", "tsv"]) == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(file).name for each in results for file in each["files"]] == [
        f"{file_name('..')}.md", f"{file_name('..')}.tsv", "s1.md", "s1.tsv"
    ]  # fmt: skip
    assert files(tmp_path / "u2").items() >= before.items()


def test_a_session_that_fails_does_not_stop_the_others(
    bucket: S3Server, tmp_path: Path, capsys: Capture
) -> None:
    bucket.put(SESSION.result_key, b"{}")
    assert run(["export"]) == 1
    err = capsys.readouterr().err
    assert f"failed: {SESSION}: TRANSCRIPT_INVALID" in err
    assert "3 exported, 0 unchanged, 1 failed" in err
    assert run(["export", "new", "users/u2/audio/sessions/s1"]) == 1  # named, and has none
    assert "no transcript of users/u2/audio/sessions/new yet" in capsys.readouterr().err
    assert not [name for name in files(tmp_path) if "new" in name or name.endswith(".part")]
    (tmp_path / "file").touch()
    assert run(["export", "-o", "file/below"]) == 2
    assert "--output-dir" in capsys.readouterr().err
    bucket.refuse = lambda method, key: (403, "InvalidAccessKeyId") if key else None
    assert run(["export", "-o", "elsewhere"]) == 3


@pytest.mark.usefixtures("bucket")
def test_a_file_that_could_not_be_finished_is_not_there_and_the_next_call_makes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", Mock(side_effect=OSError(28, "No space left on device")))
        assert run(["export", "-o", "out"]) == 2
    assert "No space left on device" in capsys.readouterr().err
    left = list(files(tmp_path / "out"))
    assert left
    assert all(name.endswith(".part") for name in left)
    assert run(["export", "-o", "out"]) == 0
    assert len([name for name in files(tmp_path / "out") if name.endswith(".txt")]) == 4
    assert not list((tmp_path / "out").rglob("*.part"))


NAMES = st.text(string.printable.replace("/", "") + "éÉ漢\u202e~", min_size=1, max_size=300)


@given(NAMES, NAMES)
def test_no_two_names_become_one_file_and_any_file_system_takes_them(one: str, two: str) -> None:
    first = file_name(one)
    assert (first == file_name(two)) == (one == two)
    assert len(f".{first}.json.part".encode()) <= 255
    assert not set(first) & set('\\/:*?"<>|\n\t ')
    assert first == one or "~" in first
    assert file_name(first) == first or "~" in first
    assert first[0] not in ".-"
    assert first[-1] != "."


@pytest.mark.parametrize("name", ["..", ".", "CON", "nul.txt", "-rf", "a.", "x" * 101, "é", "a~b"])
def test_names_that_file_systems_do_not_take_are_replaced(name: str) -> None:
    assert file_name(name) not in (name, "", ".", "..")
    assert file_name("session_2025-12-15T02_47_34_213Z") == "session_2025-12-15T02_47_34_213Z"

"""``python -m worker``: a file of this machine, on real models, without a queue."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bucketscribe_contract import Transcript
from tests.recordings import SHORT_SPEECH, short_speech, write_recording
from tests.transcript_rules import broken_rules

ROOT = Path(__file__).parents[3]


def start(*arguments: object, cwd: Path, **more: object) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | more
    env = os.environ | {"PYTHONPATH": str(ROOT), "TMPDIR": str(cwd), "MAX_INLINE_SECONDS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "worker", *map(str, arguments)], cwd=cwd, env=env, **pipes
    )


def test_a_file_is_read_where_it_is_and_its_formats_go_to_stdout_or_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir(mode=0o700)
    recording = shutil.copy(SHORT_SPEECH, folder / "meeting.flac")
    recording.chmod(0o400)
    printed = start(recording, "--num-speakers", 2, "--clip", 0, 5.4, cwd=tmp_path)
    out, err = printed.communicate(timeout=200)
    assert (printed.returncode, err) == (0, "")
    document = Transcript.model_validate_json(out)
    assert broken_rules(document) == []
    assert (document.duration_seconds, len(document.speakers)) == (5.4, 2)

    ours, theirs = pty.openpty()
    options = ("--no-diarize", "--format", "srt", "-o", folder / "meeting.srt")
    written = start(recording, *options, cwd=tmp_path, stderr=theirs)
    assert written.communicate(timeout=200)[0] == ""
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    assert re.search(r"transcribe +\[#+ *\] +\d+ %", shown)
    assert shown.endswith("\x1b[K")
    text = (folder / "meeting.srt").read_text()
    assert (text.startswith("1\n00:00:0"), "harbor" in text, "SPEAKER" in text) == (1, 1, 0)
    assert sorted(path.name for path in folder.iterdir()) == ["meeting.flac", "meeting.srt"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("sign", ["validate", "[#"])  # models are being loaded, are at work
def test_ctrl_c_ends_it_within_seconds_and_leaves_no_result(tmp_path: Path, sign: str) -> None:
    write_recording(tmp_path / "long.wav", np.tile(short_speech(), 200))
    ours, theirs = pty.openpty()
    process = start("long.wav", "-o", "long.json", cwd=tmp_path, stderr=theirs)
    os.close(theirs)
    shown = ""
    while sign not in shown:
        shown += os.read(ours, 1 << 16).decode()
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    assert process.communicate(timeout=60)[0] == ""
    assert (process.returncode, time.monotonic() - began < 6) == (130, True)
    assert os.read(ours, 1 << 16).decode().endswith("\x1b[Kinterrupted\r\n")
    assert [path.name for path in tmp_path.iterdir()] == ["long.wav"]


def test_what_cannot_be_done_is_one_line_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "text.m4a").write_text("no sound")
    for code, *arguments in (
        ("AUDIO_NOT_FOUND", "nosuch.m4a"),
        ("INVALID_INPUT", "text.m4a", "--num-speakers", "two"),
        ("AUDIO_UNREADABLE", "text.m4a", "-o", "text.json"),
    ):
        process = start(*arguments, cwd=tmp_path)
        out, err = process.communicate(timeout=200)
        assert (process.returncode, out, err.count("\n")) == (1, "", 1)
        assert err.startswith(f"{code}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["text.m4a"]

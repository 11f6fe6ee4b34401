"""A recording goes through: S3, queue, real worker, S3, by the edge client's commands."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bucketscribe_contract import JobSummary, Transcript
from devstack import EventKind
from tests.e2e.conftest import UNREADABLE, Bench
from tests.recordings import short_speech, telephone_speech, write_recording
from tests.transcript_rules import broken_rules

USER = "users/512b3590-30b1-707d-ed46-bf68df7b52d5/audio/sessions"
ODD = f"{USER}/séance 1+1 = 100%"


def letters(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


@pytest.fixture(scope="module", autouse=True)
def said(bench: Bench, telephone: bytes) -> dict[str, Any]:
    """What ``submit --wait --json`` prints for the session."""
    bench.put(f"{ODD}/audio.wav", telephone)
    printed: dict[str, Any] = json.loads(bench.edge_client("submit", ODD, "--wait", "--json"))
    return printed


def test_a_session_with_an_odd_name_becomes_a_transcript(
    bench: Bench, said: dict[str, Any]
) -> None:
    recording, stored = bench.get(f"{ODD}/audio.wav"), bench.get(f"{ODD}/transcription.json")
    document = Transcript.model_validate_json(stored["Body"].read())
    assert broken_rules(document) == []
    assert document.duration_seconds == 30.0
    assert document.language == "en"
    assert document.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert document.warnings == ()
    assert document.audio_etag == recording["ETag"]
    text = letters(" ".join(segment.text for segment in document.segments))
    assert "ThisisDianeinNewJersey." in text
    assert letters("".join(w.word for s in document.segments for w in s.words)) == text
    assert "SPEAKER" not in json.dumps(said)

    # the answer through the queue is small and true, and progress comes before it
    output = bench.result(said["job_id"])["output"]
    assert len(json.dumps(output).encode()) < 1024
    summary = JobSummary.model_validate(output)
    assert summary.result.bytes == stored["ContentLength"]
    assert stored["ContentType"] == "application/json"
    assert summary.audio_etag == recording["ETag"]
    assert set(summary.timings) >= {"fetch", "transcribe", "align", "diarize", "deliver"}
    events = bench.stack.queue_events(EventKind.PROGRESS, EventKind.COMPLETED)
    mine = [event for event in events if event.job_id == said["job_id"]]
    kinds = [event.kind for event in sorted(mine, key=lambda event: event.seq)]
    assert kinds == [EventKind.PROGRESS] * (len(kinds) - 1) + [EventKind.COMPLETED]
    assert len(kinds) > 1


def test_a_done_session_is_not_submitted_again_and_is_found_by_its_name(bench: Bench) -> None:
    name = ODD.rsplit("/", 1)[1]
    submitted = bench.submissions()
    bench.edge_client("submit", ODD)
    assert json.loads(bench.edge_client("wait", name, "--json"))
    assert json.loads(bench.edge_client("status", name, "--json"))["done"] is True
    text = bench.edge_client("render", ODD, "--format", "txt")
    assert "] SPEAKER_01: " in text
    assert "This is Diane in New Jersey." in text
    assert bench.submissions() == submitted


def test_a_failed_job_ends_with_its_code(bench: Bench) -> None:
    """`--debug` prints more, and like all that is printed no signature: the stack's end looks."""
    bench.put(f"{USER}/unreadable/audio.wav", UNREADABLE)
    command = ("submit", f"{USER}/unreadable", "--wait", "--json")
    said = json.loads(bench.edge_client("--debug", *command, code=1))
    assert said["failure"]["code"] == "AUDIO_UNREADABLE"


def test_a_running_job_is_not_submitted_twice_and_can_be_cancelled(
    bench: Bench, tmp_path: Path
) -> None:
    """Afterwards the worker is free for the next job."""
    prefix, recording = f"{USER}/long", tmp_path / "audio.wav"
    write_recording(recording, np.tile(telephone_speech(), 8))
    bench.put(f"{prefix}/audio.wav", recording.read_bytes())
    job_id = json.loads(bench.edge_client("submit", prefix, "--json"))["job_id"]
    while bench.call("GET", f"status/{job_id}").get("output") is None:
        time.sleep(0.02)  # until the worker reports progress
    again = json.loads(bench.edge_client("submit", prefix, "--json"))
    assert again["state"] == "already_submitted"
    bench.edge_client("wait", prefix, "--timeout", "1", code=1)
    bench.edge_client("cancel", prefix)
    ended = bench.edge_client("wait", prefix, "--json", code=1)
    assert json.loads(ended)["state"] == "cancelled"
    assert bench.failure({"audio_base64": "QQ=="}).code == "AUDIO_UNREADABLE"
    ends = bench.stack.queue_events(EventKind.COMPLETED, EventKind.FAILED)
    assert job_id not in [event.job_id for event in ends]


def test_an_m4a_on_the_desk_is_uploaded_transcribed_and_read(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "Weekly call.m4a"
    write_recording(path, short_speech(), encoding="m4a")
    done = bench.edge_client("submit", str(path), "--user", "grace", "--wait", "--json")
    session = "users/grace/audio/sessions/Weekly_call"
    assert json.loads(done)["session"] == session
    assert bench.read(f"{session}/audio.wav") == path.read_bytes()
    document = Transcript.model_validate(bench.get_json(f"{session}/transcription.json"))
    text = " ".join(segment.text for segment in document.segments)
    assert text.strip()
    assert letters(text[:20]) in letters(bench.edge_client("render", "Weekly_call"))


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_works_on_what_presign_prints(bench: Bench, tmp_path: Path, telephone: bytes) -> None:
    def curl(arguments: list[str]) -> int:
        return subprocess.run(arguments, cwd=tmp_path, check=False, capture_output=True).returncode

    printed = bench.edge_client("presign", ODD)
    get, put = [shlex.split(line) for line in printed.splitlines() if line.startswith("curl")]
    (tmp_path / "transcription.json").write_text("{}")
    assert curl(get) == 0
    assert (tmp_path / "audio.wav").read_bytes() == telephone
    assert curl(put) == 0
    assert curl([word.replace("application/json", "text/plain") for word in put]) == 22  # S3's 403

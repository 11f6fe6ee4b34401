"""A recording goes through: S3, queue, real worker, S3, by the edge client's commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import requests

from bucketscribe_contract import MAX_SUMMARY_BYTES, JobSummary, Transcript
from devstack import EventKind
from tests.e2e.conftest import Bench

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
    document = Transcript.model_validate(bench.get_json(f"{ODD}/transcription.json"))
    assert document.duration_seconds == 30.0
    assert document.language == "en"
    assert document.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert document.warnings == ()
    assert document.audio_etag == bench.etag(f"{ODD}/audio.wav")
    text = letters(" ".join(segment.text for segment in document.segments))
    assert "ThisisDianeinNewJersey." in text
    assert letters("".join(w.word for s in document.segments for w in s.words)) == text
    assert json.dumps(said).count("SPEAKER") == 0


def test_the_answer_through_the_queue_is_small_and_true(bench: Bench, said: dict[str, Any]) -> None:
    output = bench.result(said["job_id"])["output"]
    assert len(json.dumps(output).encode()) < MAX_SUMMARY_BYTES
    summary = JobSummary.model_validate(output)
    stored = bench.stack.s3.client().get_object(
        Bucket=bench.stack.s3.bucket, Key=f"{ODD}/transcription.json"
    )
    assert summary.result.bytes == stored["ContentLength"]
    assert stored["ContentType"] == "application/json"
    assert summary.audio_etag == bench.etag(f"{ODD}/audio.wav")
    assert set(summary.timings) >= {"fetch", "transcribe", "align", "diarize", "deliver"}


def test_a_done_session_is_not_submitted_again_and_is_found_by_its_name(bench: Bench) -> None:
    name = ODD.rsplit("/", 1)[1]
    submitted = len(bench.stack.queue_events(EventKind.SUBMITTED))
    bench.edge_client("submit", ODD)
    assert json.loads(bench.edge_client("wait", name, "--json"))
    assert json.loads(bench.edge_client("status", name, "--json"))["done"] is True
    text = bench.edge_client("render", ODD, "--format", "txt")
    assert "SPEAKER_01  This is Diane in New Jersey." in text
    assert len(bench.stack.queue_events(EventKind.SUBMITTED)) == submitted


def test_progress_is_reported_before_the_result(bench: Bench, said: dict[str, Any]) -> None:
    events = [
        event
        for event in bench.stack.queue_events(EventKind.PROGRESS, EventKind.COMPLETED)
        if event.job_id == said["job_id"]
    ]
    kinds = [event.kind for event in sorted(events, key=lambda event: event.seq)]
    assert kinds == [EventKind.PROGRESS] * (len(kinds) - 1) + [EventKind.COMPLETED]
    assert len(kinds) > 1


def test_the_worker_leaves_no_file_behind(bench: Bench) -> None:
    assert list(bench.stack.worker_home.rglob("bucketscribe-*")) == []


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_works_on_what_presign_prints(bench: Bench, tmp_path: Path, telephone: bytes) -> None:
    urls = json.loads(bench.edge_client("presign", ODD, "--json"))
    got = tmp_path / "audio.wav"
    subprocess.run(["curl", "-sSf", "-o", str(got), urls["audio_url"]], check=True)
    assert got.read_bytes() == telephone
    put = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-T", "-", urls["result_url"]]
    for content_type, status in (("application/json", b"200"), ("text/plain", b"403")):
        header = ["-H", f"Content-Type: {content_type}"]
        done = subprocess.run([*put, *header], input=b"{}", capture_output=True, check=True)
        assert done.stdout == status


def test_an_expired_url_gets_s3s_403(bench: Bench) -> None:
    urls = json.loads(bench.edge_client("presign", ODD, "--expires", "1", "--json"))
    time.sleep(2.1)
    answer = requests.get(urls["audio_url"], timeout=10)
    assert answer.status_code == 403
    assert "expired" in answer.text

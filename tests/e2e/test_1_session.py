"""A recording goes through: S3, queue, real worker, S3, by the edge client's commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import requests

from bucketscribe_contract import MAX_SUMMARY_BYTES, JobSummary, Transcript
from devstack import EventKind
from tests.e2e.conftest import Bench

pytestmark = pytest.mark.e2e

USER = "users/512b3590-30b1-707d-ed46-bf68df7b52d5/audio/sessions"
ODD = f"{USER}/séance 1+1 = 100%"


def letters(text: str) -> str:
    """The text without white space."""
    return "".join(text.split())


def test_a_session_with_an_odd_name_becomes_a_transcript(bench: Bench, telephone: bytes) -> None:
    bench.put(f"{ODD}/audio.wav", telephone)
    said = json.loads(bench.edge_client("submit", ODD, "--wait", "--json"))
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


def test_the_answer_through_the_queue_is_small_and_true(bench: Bench) -> None:
    (job,) = bench.stack.queue_events(EventKind.COMPLETED)
    output = bench.result(job.job_id)["output"]
    assert len(json.dumps(output).encode()) < MAX_SUMMARY_BYTES
    summary = JobSummary.model_validate(output)
    stored = bench.stack.s3.client().get_object(
        Bucket=bench.stack.s3.bucket, Key=f"{ODD}/transcription.json"
    )
    assert summary.result.bytes == stored["ContentLength"]
    assert stored["ContentType"] == "application/json"
    assert summary.audio_etag == bench.etag(f"{ODD}/audio.wav")
    assert set(summary.timings) >= {"fetch", "transcribe", "align", "diarize", "deliver"}


def test_a_done_session_is_not_submitted_again(bench: Bench) -> None:
    submitted = len(bench.stack.queue_events(EventKind.SUBMITTED))
    bench.edge_client("submit", ODD)
    assert len(bench.stack.queue_events(EventKind.SUBMITTED)) == submitted


def test_the_transcript_can_be_read(bench: Bench) -> None:
    text = bench.edge_client("render", ODD, "--format", "txt")
    assert "SPEAKER_01  This is Diane in New Jersey." in text


def test_wait_and_status_find_the_session_by_its_bare_name(bench: Bench) -> None:
    name = ODD.rsplit("/", 1)[1]
    assert json.loads(bench.edge_client("wait", name, "--json"))
    assert json.loads(bench.edge_client("status", name, "--json"))["done"] is True


def test_progress_is_told_and_none_after_the_result(bench: Bench) -> None:
    (done,) = bench.stack.queue_events(EventKind.COMPLETED)
    told = [e for e in bench.stack.queue_events(EventKind.PROGRESS) if e.job_id == done.job_id]
    assert told
    assert all(event.seq < done.seq for event in told)


def test_the_worker_leaves_no_file_behind(bench: Bench) -> None:
    left = [path for path in bench.stack.worker_home.rglob("bucketscribe-*")]
    assert left == []


def test_presigned_urls_work_as_printed(bench: Bench, telephone: bytes) -> None:
    urls = json.loads(bench.edge_client("presign", ODD, "--json"))
    assert requests.get(urls["audio_url"], timeout=10).content == telephone
    statuses = [
        requests.put(
            urls["result_url"], b"{}", headers={"Content-Type": content_type}, timeout=10
        ).status_code
        for content_type in ("application/json", "text/plain")
    ]
    assert statuses == [200, 403]


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

"""The line at a job's end: what it says to people and to machines, and what it never says."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from bucketscribe_contract import FailureCode, JobFailure, Stage
from worker.host import log as job_log
from worker.host.log import JobLog, JsonLines, said

STAGES = {Stage.FETCH: 0.014, Stage.TRANSCRIBE: 2.5}
FAILURE = JobFailure.of(FailureCode.AUDIO_NOT_FOUND, "no recording at https://b/k", Stage.FETCH)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that took 5 s and 812 MB."""
    seconds = iter([100.0, 105.0, 105.0])
    monkeypatch.setattr(job_log.time, "perf_counter", lambda: next(seconds))
    monkeypatch.setattr(job_log.current_job, "job_id", None)
    monkeypatch.setattr(job_log.memory, "peaks_mb", lambda: {"rss_peak_mb": 812})


def a_job(*warnings: str) -> JobLog:
    return JobLog("job-1", 40.04, STAGES, warnings)


def test_a_finished_job_is_summed_up() -> None:
    assert a_job("NO_SPEECH").facts({"status": "ok"}) == {
        "job": "job-1",
        "status": "ok",
        "error": None,
        "audio_seconds": 40.0,
        "seconds": 5.0,
        "real_time_factor": 0.1249,
        "models_seconds": 0.0,
        "stages": {"fetch": 0.01, "transcribe": 2.5},
        "rss_peak_mb": 812,
        "warnings": ["NO_SPEECH"],
        "fresh_worker": False,
    }


def test_it_reads_well_on_a_terminal() -> None:
    """Waiting for the models is no work."""
    log = a_job("NO_SPEECH", "BATCH_REDUCED: speech 2")
    log.models_s = 4.0
    assert said(log.facts({"refresh_worker": True})) == (
        "job job-1 ok: 40.0 s of audio in 5.0 s (0.025 of real time); "
        "waited 4.0 s for the models; fetch 0.01, transcribe 2.5; rss_peak_mb 812; "
        "warnings: NO_SPEECH, BATCH_REDUCED: speech 2; asks for a fresh worker"
    )


@pytest.mark.parametrize(
    ("output", "status"),
    [
        ({"error": FAILURE.model_dump_json()}, "failed"),
        ({"status": "upload_failed", "failure": FAILURE.model_dump(mode="json")}, "upload_failed"),
    ],
)
def test_a_failure_is_told_by_its_code_alone(output: dict[str, Any], status: str) -> None:
    facts = JobLog(None).facts(output)
    assert (facts["status"], facts["error"]) == (status, "AUDIO_NOT_FOUND")
    assert facts["real_time_factor"] is None
    assert said(facts) == f"job - {status} AUDIO_NOT_FOUND: 5.0 s; rss_peak_mb 812"


@pytest.mark.parametrize(
    ("output", "level"),
    [({"status": "ok"}, logging.INFO), ({"error": FAILURE.model_dump_json()}, logging.WARNING)],
)
def test_one_line_is_written_as_json_with_the_jobs_id(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    output: dict[str, Any],
    level: int,
) -> None:
    monkeypatch.setattr(caplog.handler, "formatter", JsonLines())
    with caplog.at_level(logging.INFO, "worker.job"):
        a_job().close(output)
    (record,) = caplog.records
    assert record.levelno == level
    line = json.loads(caplog.text)
    assert (line["requestId"], line["job"], line["audio_seconds"]) == ("job-1", "job-1", 40.0)
    assert line["message"].startswith("worker.job | job job-1")
    assert job_log.current_job.job_id is None


def test_nothing_of_a_transcript_or_a_url_gets_into_it() -> None:
    output = {
        "status": "ok",
        "message": "https://b/k?X-Amz-Signature=5ec2e7",
        "segments": [{"text": "secret words"}],
        "transcript_gzip_base64": "secret",
    }
    log = a_job()
    said_twice = said(log.facts(output)) + json.dumps(log.facts(output))
    assert "5ec2e7" not in said_twice
    assert "secret" not in said_twice


@pytest.mark.parametrize(
    ("level", "named"),
    [(logging.INFO, "INFO"), (logging.WARNING, "WARN"), (logging.CRITICAL, "ERROR")],
)
def test_lines_on_runpod_have_the_sdks_keys_and_levels(level: int, named: str) -> None:
    record = logging.LogRecord("worker.x", level, "x.py", 1, "é %d\nsecond", (1,), None)
    line = JsonLines().format(record)
    expected = {"requestId": None, "message": "worker.x | é 1\nsecond", "level": named}
    assert json.loads(line) == expected
    assert "\n" not in line


@pytest.mark.parametrize("on_runpod", [True, False])
def test_lines_are_json_on_runpod_only_and_scrubbed_on_both(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_log: Callable[[], None],
    on_runpod: bool,
) -> None:
    if on_runpod:
        monkeypatch.setenv("RUNPOD_ENDPOINT_ID", "ep")
    else:
        monkeypatch.delenv("RUNPOD_ENDPOINT_ID", raising=False)
    job_log.configure_logging()
    logging.getLogger("worker.x").warning("GET https://b/k?X-Amz-Signature=5ec2e7")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("{") is on_runpod
    assert "https://b/k?***" in line


@pytest.mark.parametrize("in_thread", [True, False])
def test_errors_that_nobody_catches_are_scrubbed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    restored_log: Callable[[], None],
    in_thread: bool,
) -> None:
    monkeypatch.setattr(sys, "excepthook", None)
    monkeypatch.setattr(threading, "excepthook", None)
    job_log.configure_logging()
    job_log.log_uncaught_errors()

    def fail() -> None:
        raise ValueError("no such port: https://b:65536/k?X-Amz-Signature=5ec2e7")

    if in_thread:
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    else:
        with pytest.raises(ValueError, match="no such port") as caught:
            fail()
        sys.excepthook(caught.type, caught.value, caught.tb)
    printed = capsys.readouterr()
    assert "uncaught error (ValueError: no such port: https://b:65536/k?***)" in printed.err
    assert "5ec2e7" not in printed.err + printed.out


@pytest.fixture
def restored_log() -> Any:
    """Put the root logger back to what it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)

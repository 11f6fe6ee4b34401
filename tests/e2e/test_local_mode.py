"""``python handler.py``: a job without a queue."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recordings import short_reference

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run the handler from the repository's root, as the README says."""
    env = {name: value for name, value in os.environ.items() if "RUNPOD" not in name} | more
    return subprocess.run(
        [sys.executable, "handler.py", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_test_input_prints_a_transcript() -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'schema_version': 1" in done.stdout
    assert "SPEAKER_01" in done.stdout


def test_a_job_on_the_command_line_is_run(tmp_path: Path) -> None:
    given = json.loads((ROOT / "test_input.json").read_text())["input"]
    job = {"input": {"audio_base64": given["audio_base64"], "diarize": False}}
    done = run("--test_input", json.dumps(job))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "'speakers': []" in done.stdout


def test_a_failing_job_exits_1_with_its_code() -> None:
    done = run("--test_input", '{"input": {"audio_base64": "QQ==", "speed": 2}}')
    assert done.returncode == 1
    assert "speed: unknown field" in done.stdout
    assert short_reference().utterances[0].text not in done.stderr


def test_on_runpod_the_jobs_line_is_json_under_its_id() -> None:
    job = '{"id": "job-1", "input": {"audio_base64": "QQ==", "speed": 2}}'
    done = run("--test_input", job, RUNPOD_ENDPOINT_ID="ep")
    lines = [json.loads(line) for line in done.stderr.splitlines() if "worker.job" in line]
    (line,) = lines
    assert (line["requestId"], line["level"]) == ("job-1", "WARN")
    assert (line["status"], line["error"]) == ("failed", "INVALID_INPUT")

"""``python handler.py``: a job without a queue."""

import json
import os
import subprocess
import sys
from pathlib import Path

from bucketscribe_contract import Transcript
from tests.recordings import short_reference

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
    document = Transcript.model_validate_json(done.stdout)
    assert document.speakers == ("SPEAKER_00", "SPEAKER_01")
    assert short_reference().utterances[0].text not in done.stderr


def test_a_failing_job_exits_1_with_its_code_and_logs_json_on_runpod() -> None:
    job = {"id": "job-1", "input": {"audio_base64": "QQ==", "speed": 2}}
    done = run("--test_input", json.dumps(job), RUNPOD_ENDPOINT_ID="ep")
    assert done.returncode == 1
    assert "speed: unknown field" in json.loads(done.stdout)["error"]
    (line,) = [json.loads(line) for line in done.stderr.splitlines() if "worker.job" in line]
    assert (line["requestId"], line["level"]) == ("job-1", "WARN")
    assert (line["status"], line["error"]) == ("failed", "INVALID_INPUT")


def test_what_is_no_job_is_said_in_one_line_before_a_model_is_loaded() -> None:
    for given in ("{'input': {}}", "[]", '{"input": 1}', '{"inputs": {}}'):
        done = run("--test_input", given, MODELS_DIR="/nonexistent")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("no job")


def test_nothing_shows_a_signature() -> None:
    url = "https://8.8.8.8:65536/k?X-Amz-Signature=5ec2e7"
    job = {"id": "job-1", "input": {"audio_base64": "QQ==", "progress_url": url}}
    done = run("--test_input", json.dumps(job), RUNPOD_LOG_LEVEL="DEBUG")
    assert json.loads(json.loads(done.stdout)["error"])["code"] == "URL_NOT_ALLOWED"
    assert "5ec2e7" not in done.stdout + done.stderr

"""The client on the development stack: SeaweedFS, the queue, the SDK's real worker loop."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack import Stack
from devstack.stack import write_env_file
from tests.unit.edge_client.samples import wav

ROOT = Path(__file__).parent.parent.parent
SESSION = "users/u 1/audio/sessions/ses sion+%41 ü"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A running stack with recordings; the folder of its .env."""
    folder = tmp_path_factory.mktemp("edge")
    command = (sys.executable, "-m", "tests.fakes.worker_process", "sdk")
    with Stack(logs=folder / "logs", worker_command=command) as stack:
        write_env_file(folder / ".env", stack.env)
        s3 = stack.s3.client()
        for prefix in (SESSION, *(f"users/u2/audio/sessions/{n}" for n in "abcde")):
            s3.put_object(
                Bucket=stack.env["COGNITO_S3_BUCKET"], Key=f"{prefix}/audio.wav", Body=wav(4)
            )
        s3.close()
        yield folder


@pytest.fixture
def run(home: Path) -> Run:
    """Run the client as its users do."""

    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "edge_client", *argv],
            cwd=home,
            env={"PYTHONPATH": str(ROOT), "PATH": "", "HOME": str(home)},
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def test_doctor_finds_nothing(run: Run) -> None:
    done = run("doctor")
    assert (done.returncode, done.stdout.count("✓")) == (0, 7)


def test_recording_becomes_a_transcript_once(run: Run) -> None:
    done = run("submit", "ses sion+%41 ü", "--hotwords", "progress", "--wait")
    assert done.returncode == 0, done.stderr
    assert "2 segments, 2 speakers" in done.stdout
    assert "transcribe 40 %" in done.stderr
    assert "SPEAKER_01  Thank you." in run("render", SESSION).stdout
    again = json.loads(run("submit", SESSION, "--json").stdout)
    assert again["state"] == "already_done"
    assert json.loads(run("status", SESSION, "--json").stdout)["done"] is True


def test_failure_has_its_code(run: Run) -> None:
    done = run("submit", "a", "--hotwords", "fail", "--wait", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["failure"]["code"] == "AUDIO_UNREADABLE"


def test_transcript_that_the_worker_could_not_store_is_delivered(run: Run) -> None:
    done = run("submit", "b", "--hotwords", "upload_failed", "--wait")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Hello & welcome." in run("render", "b").stdout


def test_result_that_runpod_lost_is_found_in_s3(run: Run) -> None:
    done = run("submit", "c", "--hotwords", "no_output", "--wait", "--json")
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["summary"]["segments_count"] == 2


def test_running_job_is_not_submitted_twice_and_can_be_cancelled(run: Run) -> None:
    assert run("submit", "d", "--hotwords", "slow").returncode == 0
    assert json.loads(run("submit", "d", "--json").stdout)["state"] == "already_submitted"
    assert run("wait", "d", "--timeout", "1").returncode == 1
    assert run("cancel", "d").returncode == 0
    assert json.loads(run("wait", "d", "--json").stdout)["state"] == "cancelled"


def test_curl_works_on_what_presign_prints(run: Run, home: Path) -> None:
    shown = run("presign", SESSION).stdout
    get, put = [shlex.split(line) for line in shown.splitlines() if line.startswith("curl")]
    (home / "transcription.json").write_text('{"segments": []}')
    assert curl(get, home) == 0
    assert (home / "audio.wav").read_bytes() == wav(4)
    assert curl(put, home) == 0
    assert curl([word.replace("application/json", "text/plain") for word in put], home) == 22
    expired = run("presign", SESSION, "--expires", "1").stdout.splitlines()[2]
    assert curl(["sleep", "2"], home) == 0
    assert curl(shlex.split(expired), home) == 22  # S3's 403


def curl(argv: list[str], home: Path) -> int:
    return subprocess.run(argv, cwd=home, check=False, capture_output=True).returncode


def test_no_log_holds_a_signature(run: Run, home: Path) -> None:
    crashed = run("submit", "e", "--hotwords", "crash", "--wait", "--json")
    assert json.loads(crashed.stdout)["state"] == "failed"
    debug = run("--debug", "submit", "e", "--hotwords", "crash", "--wait")
    for text in (crashed.stdout, crashed.stderr, debug.stdout, debug.stderr):
        assert "X-Amz-Signature=" not in text

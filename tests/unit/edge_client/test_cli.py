"""The command line: exit codes, one line on errors, one object with --json."""

import io
import json
import shlex
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest

from bucketscribe_contract import FailureCode, TranscriptForm
from edge_client import cli
from edge_client.cli import run
from tests.fakes.servers import ECHOED, Reply, RunpodServer, S3Server
from tests.unit.edge_client.conftest import KEY
from tests.unit.edge_client.jobs.scene import IDLE, failed, undelivered
from tests.unit.edge_client.samples import SESSION, job, summary, transcript, wav

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def recording(s3: S3Server, runpod: RunpodServer, env_file: Path) -> None:
    """A recording, and a queue that takes its job."""
    s3.put(SESSION.audio_key, wav(2))
    runpod.on("/run", Reply(job("IN_QUEUE")))


@pytest.fixture
def finishing(s3: S3Server, runpod: RunpodServer, recording: None) -> None:
    """A queue whose job is done at the first look, its transcript in S3."""

    def stores(method: str, key: str) -> None:
        if runpod.count("/status/job-1") and SESSION.result_key not in s3.objects:
            s3.put(SESSION.result_key, transcript())

    s3.refuse = stores
    told = summary(segments_count=1117, speakers_count=2, duration_seconds=4447.5)
    told |= {"language": "en", "warnings": ["DIARIZATION_FAILED"], "request_id": ECHOED}
    runpod.on("/status/job-1", Reply(job("COMPLETED", output=told)))


@pytest.mark.usefixtures("finishing")
def test_submit_and_wait_prints_the_summary(capsys: Capture) -> None:
    assert run(["submit", "s1", "--wait"]) == 0
    out, err = capsys.readouterr()
    assert out == (
        f"done: {SESSION}\n"
        "  4,447.5 s of audio (en), in 0.5 s\n"
        "  1,117 segments, 2 speakers\n"
        "  warnings: DIARIZATION_FAILED\n"
        f"  s3://recordings/{SESSION.result_key} ({len(transcript())} bytes)\n"
        f"  read it: edge-client render {SESSION} --format txt\n"
    )
    assert err.splitlines()[1:] == ["completed"]
    assert run(["wait", "s1", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["state"], facts["job_id"], out.count("\n"), err) == ("done", "job-1", 1, "")
    assert facts["summary"]["segments_count"] == 1  # as S3 has it


@pytest.mark.usefixtures("recording")
def test_failed_job_exits_1_with_its_code_and_an_incomplete_transcript_says_so(
    runpod: RunpodServer, capsys: Capture
) -> None:
    runpod.on("/status/job-1", Reply(failed(FailureCode.AUDIO_UNREADABLE)))
    assert run(["submit", "s1", "--wait"]) == 1
    assert "AUDIO_UNREADABLE in fetch: it failed" in capsys.readouterr().out
    assert run(["wait", "s1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failure"]["code"] == "AUDIO_UNREADABLE"
    runpod.on("/status/job-1", undelivered(TranscriptForm.WITHOUT_WORDS, request_id=ECHOED))
    assert run(["submit", "s1", "--wait"]) == 0
    assert "warning: the transcript was too large to travel whole" in capsys.readouterr().out


def test_options_are_the_jobs_input(runpod: RunpodServer, recording: None, capsys: Capture) -> None:
    texts = {"language": "de", "task": "translate", "initial_prompt": "p", "hotwords": "h"}
    counts = {"num_speakers": 2, "min_speakers": 1, "max_speakers": 3}
    options = [f"--{name.replace('_', '-')}={value}" for name, value in (texts | counts).items()]
    options += ["--no-diarize", "--drop-flagged", "--strict", "--progress-file"]
    assert run(["submit", "s1", *options, "--webhook", "https://edge.example.com/h"]) == 0
    body = runpod.calls[0].body
    sent = {k: v for k, v in body["input"].items() if not k.endswith(("_url", "_id", "_headers"))}
    flags = {"diarize": False, "drop_flagged": True, "strict": True}
    assert sent == texts | counts | flags
    assert "transcription.progress.json" in body["input"]["progress_url"]
    assert body["webhook"] == "https://edge.example.com/h"


@pytest.mark.usefixtures("finishing")
def test_lost_answer_does_not_end_the_waiting(
    runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("LOST_ANSWER_SECONDS", "0")
    runpod.on("/run", Reply(drop=True), Reply(job("IN_QUEUE")))
    runpod.on("/health", IDLE)
    assert run(["submit", "s1", "--wait", "--json"]) == 0
    out, err = capsys.readouterr()
    facts = json.loads(out)
    assert (facts["state"], facts["submissions"]) == ("done", ["unanswered", "done"])
    assert "submission 2 of 3" in err
    assert runpod.count("/run") == 2


def test_without_a_command_there_is_help(capsys: Capture) -> None:
    assert run([]) == 0
    assert capsys.readouterr().out.startswith("Usage: edge-client")


@pytest.mark.usefixtures("finishing")
def test_global_options_stand_anywhere(env_file: Path, capsys: Capture) -> None:
    elsewhere = env_file.rename(env_file.with_name("other.env"))
    given = ["--env-file", str(elsewhere)]
    for argv in (
        [*given, "--json", "submit", "s1", "--wait"],
        ["--json", "submit", "s1", *given, "--wait"],
        ["submit", "--json", *given, "--wait", "s1"],
    ):
        assert run(argv) == 0
        assert json.loads(capsys.readouterr().out)["state"] in ("done", "already_done")
    for argv in (["webhook", "--json", "secret"], ["--json", "webhook", "secret", "--quiet"]):
        assert run(argv) == 0
        assert set(json.loads(capsys.readouterr().out)) == {"secret", "webhook"}
    assert run(["--json", "render", "s1", *given]) == 2
    assert "--json" in json.loads(capsys.readouterr().out)["error"]["message"]


@pytest.mark.usefixtures("finishing")
def test_quiet_is_results_and_errors_alone(runpod: RunpodServer, capsys: Capture) -> None:
    assert run(["submit", "s1", "--wait", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert (out.startswith(f"done: {SESSION}\n"), err) == (True, "")
    runpod.on("/health", Reply(status=503))
    assert run(["--quiet", "health"]) == 3
    assert capsys.readouterr() == ("", "edge-client: RunPod answers 503: try again later\n")


@pytest.mark.usefixtures("finishing")
def test_verbose_tells_every_request_and_what_is_retried(
    s3: S3Server, runpod: RunpodServer, capsys: Capture
) -> None:
    runpod.on("/status/job-1", Reply(status=503), *runpod.script["/status/job-1"])
    refuse, refused = s3.refuse, []

    def refuse_once(method: str, key: str) -> tuple[int, str] | None:
        if key == SESSION.audio_key and not refused:
            refused.append(key)
            return 503, "SlowDown"
        refuse(method, key)
        return None

    s3.refuse = refuse_once
    assert run(["submit", "s1", "--wait", "--verbose"]) == 0
    err = capsys.readouterr().err
    assert f"S3: GET {s3.url}/recordings/{SESSION.audio_key}\n" in err
    assert "S3: GetObject: SlowDown\n" in err
    assert "RunPod: POST /run: 200\n" in err
    assert "RunPod: GET /status/job-1: 200, try 2\n" in err
    assert "X-Amz" not in err


def test_bash_completes_as_the_documentation_says(tmp_path: Path) -> None:
    root = Path(cli.__file__).parent.parent
    program = tmp_path / "edge-client"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edge_client "$@"\n')
    program.chmod(0o755)
    pages = (root / "docs" / "cli.md").read_text("utf-8").splitlines()
    (documented,) = (line for line in pages if "bash_source" in line)
    script = f"""{documented}
    complete -p edge-client
    for words in "edge-client ren" "edge-client --ver" "edge-client render s1 --format r"; do
        COMPREPLY=() COMP_WORDS=($words) COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _edge_client_completion edge-client
        echo "${{COMPREPLY[@]}}"
    done"""
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(root)}
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True)
    registered, *completed = done.stdout.splitlines()
    assert registered.endswith(" edge-client")
    assert completed == ["render", "--verbose --version", "rttm"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["submit", "s1", "--language", "e"], "--language: give a code or name"),
        (["submit", "s1", "--min-speakers", "3", "--max-speakers", "2"], "min_speakers (3)"),
        (["webhook", "secret", "--base", "http://h.example"], "https"),
        (["submit", "s1", "--webhook", "http://h.example"], "https"),
        (["submit", "s1", "--timeout", "5"], "--wait"),
        (["presign", "users/u1/audio/sessions/s1", "--expires", "604801"], "604800"),
    ],
)
def test_usage_errors_exit_2_with_one_line(
    env_file: Path, s3: S3Server, argv: list[str], said: str, capsys: Capture
) -> None:
    assert run(argv) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), s3.calls) == ("", 1, [])
    assert said in err


def test_health_needs_its_own_settings_alone_and_a_failed_check_exits_3(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], runpod: RunpodServer, capsys: Capture
) -> None:
    assert run(["health", "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["code"], "RUNPOD_API_KEY" in error["message"]) == ("NOT_CONFIGURED", True)
    for name in ("RUNPOD_ENDPOINT_BASE_URL", "RUNPOD_ENDPOINT_ID", "RUNPOD_API_KEY"):
        monkeypatch.setenv(name, env[name])
    runpod.on("/health", Reply({"jobs": {"inQueue": 2, "failed": 1}, "workers": {"idle": 3}}))
    assert run(["health"]) == 0
    assert capsys.readouterr().out == "workers: 3 idle\njobs: 1 failed, 2 inQueue\n"
    runpod.on("/health", Reply(status=503))
    assert run(["health"]) == 3
    assert capsys.readouterr().err == "edge-client: RunPod answers 503: try again later\n"
    assert run(["doctor"]) == 3
    assert "✗ endpoint: RunPod answers 503" in capsys.readouterr().out
    assert run(["doctor", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_what_a_terminal_lacks_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert run(["doctor"]) == 3
    out.seek(0)
    assert "\\u2717 settings: not set" in out.read()


@pytest.mark.usefixtures("recording")
def test_unexpected_error_is_one_line_and_ctrl_c_tells_how_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def broken(*_: object) -> int:
        raise ZeroDivisionError("two\nlines X-Amz-Signature=deadbeef")

    monkeypatch.setattr("edge_client.commands.health", broken)
    assert run(["health"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("edge-client: unexpected ZeroDivisionError")
    assert (err.count("\n"), "deadbeef" in err) == (1, False)
    assert run(["--debug", "health"]) == 1
    err = capsys.readouterr().err
    assert ("Traceback" in err, "deadbeef" in err) == (True, False)
    monkeypatch.setattr("edge_client.api.wait", Mock(side_effect=KeyboardInterrupt))
    assert run(["submit", "s1", "--wait"]) == 130
    assert capsys.readouterr().err.endswith(f"`edge-client wait {SESSION}` resumes\n")


@pytest.mark.usefixtures("recording")
def test_presign_prints_every_header_that_the_put_needs_and_submit_sends_them(
    monkeypatch: pytest.MonkeyPatch, runpod: RunpodServer, capsys: Capture
) -> None:
    monkeypatch.setenv("S3_SSE", "AES256")
    assert run(["presign", SESSION.prefix]) == 0
    put = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert [put[i + 1] for i, word in enumerate(put) if word == "-H"] == [
        "Content-Type: application/json",
        "x-amz-server-side-encryption: AES256",
    ]
    assert run(["submit", SESSION.prefix]) == 0
    assert runpod.calls[-1].body["input"]["result_headers"] == {
        "If-None-Match": "*",
        "Content-Type": "application/json",
        "x-amz-server-side-encryption": "AES256",
    }


@pytest.mark.usefixtures("recording")
def test_presign_calls_nobody_and_render_prints_transcripts(
    s3: S3Server, tmp_path: Path, capsys: Capture
) -> None:
    assert run(["presign", SESSION.prefix, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["result_headers"] == {"Content-Type": "application/json"}
    assert (facts["expires_in"], facts["result_url"][:7], s3.calls) == (3600, "http://", [])
    assert run(["render", "s1"]) == 1
    assert f"edge-client submit {SESSION} --wait" in capsys.readouterr().err
    s3.put(SESSION.result_key, transcript())
    assert run(["render", "s1"]) == 0
    assert run(["render", "s1", "--format", "vtt"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("[0:00:00] SPEAKER_00: Hello.\nWEBVTT\n\n")
    assert run(["render", "s1", "--format", "srt", "-o", str(tmp_path / "a.srt")]) == 0
    assert (tmp_path / "a.srt").read_bytes().endswith(b"\nHello.\n")
    s3.put(f"{SESSION.prefix[:-1]}2/transcription.json", b"[]")
    assert run(["render", f"{SESSION.prefix[:-1]}2", "--format", "json"]) == 1
    assert "the transcript cannot be read" in capsys.readouterr().err
    assert run(["render", "s1", "-o", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert (out, "give one that can be written" in err) == ("", True)
    assert run(["submit", "s1", "--wait"]) == 0
    assert capsys.readouterr().out.startswith("already done: ")


@pytest.mark.usefixtures("recording")
def test_view_makes_a_page_and_opens_it(
    s3: S3Server, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("webbrowser.open", lambda url: opened.append(url) or len(opened) < 2)
    assert run(["view", "s1"]) == 1
    s3.put(SESSION.result_key, transcript())
    assert run(["view", "s1"]) == 0
    page = Path(capsys.readouterr().out.split(": ")[1].strip())
    assert (page.name, page.stat().st_mode & 0o777, opened) == ("s1.html", 0o600, [page.as_uri()])
    assert run(["view", SESSION.prefix, "-o", str(tmp_path), "--link", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"session": SESSION.prefix, "page": str(tmp_path / "s1.html")}
    assert "no browser opens here" in err
    assert "X-Amz-Signature" in (tmp_path / "s1.html").read_text()
    assert "X-Amz-Signature" not in out + err
    assert run(["render", "s1", "--format", "html"]) == 0
    assert capsys.readouterr().out == page.read_text()
    assert run(["view", "s1", "--no-open", "-o", str(tmp_path / "none" / "x.html")]) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert len(opened) == 2


@pytest.mark.usefixtures("recording")
def test_submit_twice_status_and_cancel(runpod: RunpodServer, capsys: Capture) -> None:
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")))
    runpod.on("/cancel/job-1", Reply(job("CANCELLED")))
    for command, code in (("submit", 0), ("submit", 0), ("status", 4), ("cancel", 0)):
        assert run([command, "s1"]) == code
    first, second, *described, last = capsys.readouterr().out.splitlines()
    assert first.startswith("submitted: job job-1")
    assert second.startswith("already submitted: job job-1")
    assert "job job-1: queued" in described[-1]
    assert last == "cancelled: job-1"


@pytest.mark.usefixtures("recording")
def test_nothing_printed_or_logged_holds_a_secret(
    runpod: RunpodServer, capsys: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    runpod.on("/run", Reply(drop=True))
    caplog.set_level("DEBUG")
    assert run(["--debug", "submit", "s1"]) == 1
    out, err = capsys.readouterr()
    for secret in ("X-Amz-Signature=", KEY, "secretsecretsecret"):
        assert secret not in out + err
        assert secret not in caplog.text


AWS = {"boto3", "botocore"}
HEAVY = AWS | {"requests", "pydantic", "rich", "bucketscribe_contract", "bucketscribe_render"}
FOREIGN = {"torch", "runpod", "numpy", "whisperx", "pyannote", "worker", "devstack"}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import edge_client, edge_client.cli, edge_client.__main__", HEAVY),
        ("from edge_client.cli import run; run(['submit', '--help'])", AWS),
        ("from edge_client.cli import run; run(['submit'])", AWS),
        ("import edge_client.commands, edge_client.batch.run, edge_client.webhook", FOREIGN),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_needed(statement: str, absent: set[str]) -> None:
    code = f"import sys; {statement}; print(*sys.modules, file=sys.stderr)"
    command, root = [sys.executable, "-c", code], Path(cli.__file__).parent.parent
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root)
    imported = {name.split(".")[0] for name in done.stderr.splitlines()[-1].split()}
    assert imported & absent == set()

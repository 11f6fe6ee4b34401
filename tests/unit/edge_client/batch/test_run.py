"""``edge-client batch`` as a command: what it refuses, what it prints, how it exits."""

import json
from datetime import datetime
from pathlib import Path

import pytest

from edge_client.batch import run as run_
from edge_client.batch.run import parse_since
from edge_client.batch.shutdown import Shutdown, ShutdownLevel
from edge_client.cli import run
from edge_client.errors import BadUsage
from edge_client.jobs.poll import PollInterval
from edge_client.session import Session
from tests.fakes.servers import RunpodServer, S3Server
from tests.unit.edge_client.batch.endpoint import Endpoint
from tests.unit.edge_client.samples import NOW, claim, transcript


@pytest.fixture
def endpoint(
    env_file: Path, s3: S3Server, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> Endpoint:
    monkeypatch.setenv("RETRY_DELAY_SECONDS", "0")
    monkeypatch.setattr(run_, "PollInterval", lambda *_, **__: PollInterval(0.01, 0.02))
    monkeypatch.setattr(runpod, "answer", runpod.answer)  # put back at the end
    return Endpoint(runpod, s3)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--session", "a", "--user", "b"], "--session and --user"),
        (["--user", "b", "--retry-failed", "f"], "--user and --retry-failed"),
        (["--dry-run", "--report", "f"], "--dry-run"),
        (["--since", "yesterday"], "--since"),
        (["--max-in-flight", "0"], "--max-in-flight"),
        (["--limit", "0"], "--limit"),
        (["--language", "english"], "--language"),
        (["--webhook", "http://example.org/"], "https"),
        (["--retry-failed", "absent.jsonl"], "--retry-failed"),
        (["--report", "no/such/folder/r"], "--report"),
    ],
)
def test_contradictions_are_refused_before_anything_is_done(
    endpoint: Endpoint,
    s3: S3Server,
    argv: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["batch", *argv]) == 2
    assert said in capsys.readouterr().err
    assert s3.calls == []
    assert endpoint.posts == {}


def test_bucket_is_worked_through_and_then_there_is_nothing_to_do(
    endpoint: Endpoint, s3: S3Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("s 1", "ü+%", "s-3"):
        endpoint.add(name)
    s3.put(Session("u1", "parts").prefix + "/chunk-001.webm", b"x")
    assert run(["batch"]) == 0
    out = capsys.readouterr()
    assert "Complete: 3 succeeded, 0 failed" in out.out
    assert "not merged: 1" in out.out
    assert "4 GPU seconds" in out.out
    for made in ("1 ListObjectsV2", "3 /run", "6 PutObject", "6 /status"):
        assert made in out.out
    assert endpoint.posts == {"s 1": 1, "ü+%": 1, "s-3": 1}
    assert run(["batch"]) == 0
    assert "No sessions pending transcription" in capsys.readouterr().out
    assert endpoint.posts.total() == 3


def test_failure_is_named_left_alone_by_the_next_batch_and_retried_when_asked(
    endpoint: Endpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.add("bad-1")
    endpoint.add("s-1")
    report = tmp_path / "report.jsonl"
    assert run(["batch", "--report", str(report)]) == 1
    assert "bad-1: AUDIO_UNREADABLE: it failed" in capsys.readouterr().out
    assert run(["batch"]) == 1
    assert "failed before: 1" in capsys.readouterr().out
    assert endpoint.posts["bad-1"] == 1
    assert run(["batch", "--retry-failed", str(report)]) == 1
    assert endpoint.posts == {"bad-1": 2, "s-1": 1}
    report.write_text(report.read_text().splitlines()[-1].replace("failed", "done") + "\n")
    assert run(["batch", "--retry-failed", str(report)]) == 0, "there is nothing to retry"
    assert endpoint.posts.total() == 3


def test_json_is_a_line_a_session_and_the_summary(
    endpoint: Endpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.add("s-1")
    assert run(["batch", "--json"]) == 0
    session, end = lines(capsys)
    assert session["session"] == Session("u1", "s-1").prefix
    assert (session["result"], session["gpu_s"]) == ("done", 1.5)
    summary = end["summary"]
    assert isinstance(summary, dict)
    assert (summary["succeeded"], summary["exit_code"]) == (1, 0)


def test_refused_key_exits_with_3(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> None:
    endpoint.add("s-1")
    endpoint.refuse = lambda method, path: 401
    assert run(["batch"]) == 3
    assert "RUNPOD_API_KEY" in capsys.readouterr().err


def test_limit_user_and_force(endpoint: Endpoint, s3: S3Server) -> None:
    for user, name in (("u1", "a"), ("u1", "b"), ("u2", "c")):
        s3.put(endpoint.add(name, user).result_key, transcript())
    assert run(["batch", "--force", "--user", "u1", "--limit", "1"]) == 0
    assert endpoint.posts.total() == 1
    assert "c" not in endpoint.posts


def test_interrupt_exits_with_130_and_says_how_to_resume(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint.add("slow-1")

    quick = Shutdown()
    quick.request(ShutdownLevel.SUBMIT_NO_MORE)
    monkeypatch.setattr(run_, "Shutdown", lambda: quick)
    assert run(["batch"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert endpoint.posts == {}


def test_with_webhooks_only_stragglers_are_looked_at() -> None:
    assert run_.poll_interval(True, claim(duration_s=1000.0)).next_s() > 300
    assert run_.poll_interval(False, claim(duration_s=1000.0)).next_s() < 2


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-10-01", "2026-10-01T00:00:00+00:00"),
        ("2026-10-01T08:30", "2026-10-01T08:30:00+00:00"),
        ("2026-10-01 08:30:05", "2026-10-01T08:30:05+00:00"),
        ("2026-10-01T08:30:00Z", "2026-10-01T08:30:00+00:00"),
        ("2026-10-01T08:30:00+02:00", "2026-10-01T06:30:00+00:00"),
        ("7d", "2026-10-25T12:00:00+00:00"),
        (" 12h ", "2026-11-01T00:00:00+00:00"),
    ],
)
def test_since_is_utc_unless_it_says_otherwise_or_counts_from_now(text: str, moment: str) -> None:
    assert parse_since(text, NOW) == datetime.fromisoformat(moment)
    assert parse_since(text, NOW).tzinfo is not None


@pytest.mark.parametrize(
    "text", ["", "yesterday", "7", "7w", "-1d", "2026-13-01", "999999d", "1.5h"]
)
def test_any_other_since_names_what_can_be_written(text: str) -> None:
    with pytest.raises(BadUsage, match=r"--since .*7d, 12h"):
        parse_since(text, NOW)

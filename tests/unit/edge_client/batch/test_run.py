"""``edge-client batch`` as a command: what it refuses, what it prints, how it exits."""

import json
from pathlib import Path

import pytest

from edge_client.batch import run as run_
from edge_client.batch.limits import Shutdown, ShutdownLevel
from edge_client.batch.run import parse_since
from edge_client.cli import run
from edge_client.doctor import PROBE_KEY
from edge_client.errors import BadUsage
from edge_client.jobs.poll import PollInterval
from edge_client.session import Session
from tests.fakes.servers import RunpodServer, S3Server
from tests.unit.edge_client.batch.endpoint import Endpoint
from tests.unit.edge_client.samples import NOW, claim, transcript

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def endpoint(
    env_file: Path, s3: S3Server, runpod: RunpodServer, monkeypatch: pytest.MonkeyPatch
) -> Endpoint:
    monkeypatch.setenv("RETRY_DELAY_SECONDS", "0")
    monkeypatch.setattr(run_, "PollInterval", lambda *_, **__: PollInterval(0.01, 0.02))
    return Endpoint(runpod, s3, monkeypatch)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--session", "a", "--user", "b"], "--session and --user"),
        (["--dry-run", "--report", "f"], "--dry-run and --report"),
        (["--since", "yesterday"], "--since"),
        (["--language", "english!"], "--language"),
        (["--webhook", "http://example.org/"], "https"),
        (["--retry-failed", "absent.jsonl"], "--retry-failed"),
        (["--report", "no/such/folder/r"], "--report"),
        (["--watch", "--limit", "3"], "--watch and --limit"),
        (["--max-cost", "1"], "RUNPOD_PRICE_PER_SECOND"),
    ],
)
def test_contradictions_are_refused_before_anything_is_done(
    endpoint: Endpoint, s3: S3Server, argv: list[str], said: str, capsys: Capture
) -> None:
    assert run(["batch", *argv]) == 2
    assert said in capsys.readouterr().err
    assert s3.calls == []
    assert endpoint.posts == {}


def test_bucket_is_worked_through_and_then_there_is_nothing_to_do(
    endpoint: Endpoint, s3: S3Server, capsys: Capture
) -> None:
    for name in ("s 1", "ü+%", "s-3"):
        endpoint.add(name)
    s3.put(Session("u1", "parts").prefix + "/chunk-001.webm", b"x")
    assert run(["batch"]) == 0
    out = capsys.readouterr()
    assert "Complete: 3 succeeded, 0 failed" in out.out
    assert "not merged: 1" in out.out
    assert "4 GPU seconds" in out.out
    for made in ("1 ListObjectsV2", "3 /run", "10 PutObject", "6 /status"):
        assert made in out.out
    assert endpoint.posts == {"s 1": 1, "ü+%": 1, "s-3": 1}
    assert run(["batch"]) == 0
    assert "No sessions pending transcription" in capsys.readouterr().out
    assert endpoint.posts.total() == 3


@pytest.mark.parametrize("broken", ["conditions", "signature"])
def test_what_the_deployment_has_wrong_stops_before_the_first_claim(
    endpoint: Endpoint, s3: S3Server, capsys: Capture, broken: str
) -> None:
    for number in range(25):
        endpoint.add(f"s-{number}")
    if broken == "conditions":
        s3.conditional = False
    else:
        s3.refuse = lambda _, key: (403, "SignatureDoesNotMatch") if key == PROBE_KEY else None
    assert run(["batch"]) == 3
    out = capsys.readouterr()
    assert ("S3_CONDITIONAL_PUT=0" if broken == "conditions" else "to a presigned URL") in out.err
    assert (endpoint.posts.total(), [k for k in s3.objects if k.endswith("job.json")]) == (0, [])


def test_failure_is_named_left_alone_by_the_next_batch_and_retried_when_asked(
    endpoint: Endpoint, tmp_path: Path, capsys: Capture
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


def test_verify_says_its_price_and_runs_what_it_finds_bad(
    endpoint: Endpoint, s3: S3Server, capsys: Capture
) -> None:
    for name in ("s-1", "s-2", "s-3"):
        endpoint.add(name)
    assert run(["batch"]) == 0
    s3.put(Session("u1", "s-1").result_key, b'{"segments": [')
    s3.put(Session("u1", "s-2").result_key, transcript(request_id=None))
    assert run(["batch"]) == 0
    assert run(["batch", "--verify"]) == 0
    out, err = capsys.readouterr()
    assert "--verify reads 3 transcripts: 6 GET requests" in err
    assert "unproven: 1" in out
    assert "another program wrote its transcript" in out
    assert endpoint.posts == {"s-1": 2, "s-2": 1, "s-3": 1}


def test_recording_that_may_not_be_read_is_named_and_the_others_are_done(
    endpoint: Endpoint, s3: S3Server, capsys: Capture
) -> None:
    barred = [endpoint.add(f"a-{number}").audio_key for number in range(12)]
    endpoint.add("s-1")
    s3.refuse = lambda _, key: (403, "AccessDenied") if key in barred else None
    assert run(["batch"]) == 1
    out = capsys.readouterr().out
    assert "Complete: 1 succeeded, 12 failed" in out
    assert f"/a-3: OBJECT_REFUSED: S3 answers 403 AccessDenied on GET {barred[3]}" in out
    assert endpoint.posts == {"s-1": 1}


def test_limit_user_force_and_json(endpoint: Endpoint, s3: S3Server, capsys: Capture) -> None:
    for user, name in (("u1", "a"), ("u1", "b"), ("u2", "c")):
        s3.put(endpoint.add(name, user).result_key, transcript())
    assert run(["batch", "--force", "--user", "u1", "--limit", "1", "--json"]) == 0
    session, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert (session["session"], session["result"]) == (Session("u1", "a").prefix, "done")
    assert end["summary"]["succeeded"] == 1
    assert endpoint.posts == {"a": 1}


def test_refused_key_exits_with_3_and_an_interrupt_with_130_and_how_to_resume(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    endpoint.add("slow-1")
    endpoint.refuse = lambda method, path: 401
    assert run(["batch"]) == 3
    assert "RUNPOD_API_KEY" in capsys.readouterr().err
    shutdown = Shutdown()
    shutdown.request(ShutdownLevel.SUBMIT_NO_MORE)
    monkeypatch.setattr(run_, "Shutdown", lambda: shutdown)
    assert run(["batch"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    assert endpoint.posts == {}


def test_with_webhooks_only_stragglers_are_looked_at() -> None:
    assert run_.poll_interval(True, claim(duration_s=1000.0)).next_s() > 300
    assert run_.poll_interval(False, claim(duration_s=1000.0)).next_s() < 2


def test_since_is_utc_unless_it_says_otherwise_or_counts_from_now() -> None:
    moments = {
        "2026-10-01": "2026-10-01T00:00:00+00:00",
        "2026-10-01 08:30:05": "2026-10-01T08:30:05+00:00",
        "2026-10-01T08:30:00+02:00": "2026-10-01T08:30:00+02:00",
        "7d": "2026-10-25T12:00:00+00:00",
        " 12h ": "2026-11-01T00:00:00+00:00",
    }
    assert {text: parse_since(text, NOW).isoformat() for text in moments} == moments
    for text in ("", "7w", "-1d", "2026-13-01", "999999d"):
        with pytest.raises(BadUsage, match=r"--since .*7d, 12h"):
            parse_since(text, NOW)

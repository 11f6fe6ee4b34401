"""Six recordings through the real worker: run, run again, one replaced, one that cannot be read."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from edge_client.jobs.transcript import parse
from edge_client.session import Session
from tests.recordings import short_speech, write_recording
from tests.soak.batch.conftest import Tell
from tests.soak.batch.ground import Ground, ground, sessions

pytestmark = [pytest.mark.e2e, pytest.mark.models, pytest.mark.timeout(600)]
SIX = sessions(6, users=2)
UNREADABLE = b"RIFF\x24\x00\x00\x00WAVE" + b"no audio in it " * 100


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A stack with the real worker, and six recordings of a few seconds."""
    home = tmp_path_factory.mktemp("real")
    with ground(home, (sys.executable, "handler.py")) as place:
        place.record(SIX, speech(home, 1.0))
        yield place


def speech(home: Path, seconds: float) -> bytes:
    """Return the short speech without its first part, as a WAV."""
    path = home / "speech.wav"
    write_recording(path, short_speech()[int(16_000 * (seconds - 1.0)) :])
    return path.read_bytes()


def run(place: Ground, *argv: str, code: int = 0) -> list[dict[str, object]]:
    """Run a batch; return its report."""
    report = place.home / f"report-{time.monotonic_ns()}.jsonl"
    done = place.client("batch", "--report", str(report), *argv)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in report.read_text().splitlines()]


def ran(records: Sequence[dict[str, object]]) -> dict[object, object]:
    """Return how the sessions ended that ran."""
    return {record["session"]: record["result"] for record in records if record["job_id"]}


def test_dry_run_submits_nothing(place: Ground) -> None:
    shown = place.client("batch", "--dry-run")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert all(session.prefix in shown.stdout for session in SIX)
    assert "would submit: 6 sessions" in shown.stdout
    assert place.submissions() == []
    assert place.missing(SIX) == [session.prefix for session in SIX]


def test_all_are_transcribed(place: Ground, tell: Tell) -> None:
    started = time.monotonic()
    assert ran(run(place)) == {session.prefix: "done" for session in SIX}
    tell(
        f"6 recordings of 5.5 s in {time.monotonic() - started:.0f} s, the worker's start included"
    )
    place.check_each_once(SIX)
    assert all(words_of(place, session) > 5 for session in SIX)


def words_of(place: Ground, session: Session) -> int:
    """Count the words of a session's transcript."""
    stored = place.s3.get_object(Bucket=place.bucket, Key=session.result_key)
    return sum(len(line.text.split()) for line in parse(stored["Body"].read()).lines)


def test_there_is_nothing_to_do_again(place: Ground) -> None:
    assert ran(run(place)) == {}
    assert len(place.submissions()) == len(SIX)


def test_replaced_recording_alone_runs(place: Ground) -> None:
    place.record(SIX[2:3], speech(place.home, 2.0))
    assert ran(run(place)) == {SIX[2].prefix: "done"}
    assert len(place.submissions()) == len(SIX) + 1


def test_recording_that_cannot_be_read_is_named(place: Ground) -> None:
    place.record(SIX[4:5], UNREADABLE)
    records = run(place, code=1)
    assert ran(records) == {SIX[4].prefix: "failed"}
    assert [r["code"] for r in records if r["result"] == "failed"] == ["AUDIO_UNREADABLE"]
    again = place.client("batch")
    assert "failed before: 1" in again.stdout + again.stderr
    assert SIX[4].prefix in again.stdout + again.stderr
    assert len(place.submissions()) == len(SIX) + 2

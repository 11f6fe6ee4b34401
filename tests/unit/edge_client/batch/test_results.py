"""What a batch counts, says at the end, and exits with."""

import json
from decimal import Decimal

import pytest

from edge_client.batch.progress import BatchProgress
from edge_client.batch.results import record_end
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.poll import JobProgress
from edge_client.jobs.reconcile import Done
from edge_client.jobs.retry_policy import Ending, Result
from tests.unit.edge_client.samples import FakeClock, claim_of, end, planned, record, session, start


@pytest.fixture
def batch(clock: FakeClock) -> BatchProgress:
    return BatchProgress(clock, Decimal("0.0005"))


@pytest.mark.parametrize(
    ("result", "head", "exit_code"),
    [
        ("done", "Complete: 2 succeeded, 0 failed", 0),
        *((each, "Complete: 1 succeeded, 0 failed", 0) for each in ("not_merged", "no_audio")),
        *((each, "Complete: 1 succeeded, 1 failed", 1) for each in ("failed", "lost", "of later")),
        ("in_flight", "Not complete: 1 succeeded, 0 failed", 1),
    ],
)
def test_summary_and_exit_code_say_how_sessions_ended(
    batch: BatchProgress, result: str, head: str, exit_code: int
) -> None:
    end(batch, session(0))
    end(batch, session(1), result)
    batch.stats.is_listing = False
    lines = batch.summary().text().splitlines()
    assert lines[0] == head
    assert batch.summary().exit_code == exit_code
    assert ("    users/u1/audio/sessions/s1: said so" in lines) == (result != "done")


def test_what_is_still_open_is_not_complete(batch: BatchProgress, clock: FakeClock) -> None:
    start(batch, clock, 2)
    batch.stats.listed(planned(session(2)))
    batch.ended(record(session(0), "in_flight", message="two interrupts"))
    text = batch.summary().text()
    assert text.splitlines()[:6] == [
        "Not complete: 0 succeeded, 0 failed; the listing did not end",
        "  in flight: 2 (the same command follows them)",
        "    users/u1/audio/sessions/s0: two interrupts",
        "    users/u1/audio/sessions/s1: its job goes on",
        "  not submitted: 1 (the same command submits them)",
        "    users/u1/audio/sessions/s2: found, but not submitted yet",
    ]
    assert batch.summary().exit_code == 1
    assert batch.summary().text() == text, "a second one changes nothing"


def test_amounts_are_summed_for_people_and_programs(batch: BatchProgress, clock: FakeClock) -> None:
    for number, gpu_s in enumerate((1000.2, 1000.2, None)):
        end(batch, session(number), audio_s=4440.0, gpu_s=gpu_s)
    end(batch, session(9), "failed", code="CODE", audio_s=60.0, gpu_s=100.0)
    batch.stats.is_listing = False
    clock.sleep(3725)
    summary = batch.summary({"LIST": 102, "/run": 4})
    assert summary.text().splitlines()[-2:] == [
        "  3.7 h of audio, 2,100 GPU seconds (unknown for 1), cost 1.05, 1:02:05 of wall time",
        "  requests: 102 LIST, 4 /run",
    ]
    facts = json.loads(json.dumps(summary.facts()))
    named = {"session": session(9).prefix, "code": "CODE", "message": "said so"}
    assert facts["named"] == {"failed": [named]}
    assert facts["counts"] == {"done": 3, "failed": 1}
    assert (facts["succeeded"], facts["failed"], facts["exit_code"]) == (3, 1, 1)
    assert (facts["complete"], facts["cost"], facts["requests"]["LIST"]) == (True, 1.05, 102)


def test_no_price_is_no_cost_a_length_without_transcript_is_the_claims(clock: FakeClock) -> None:
    batch = BatchProgress(clock)
    batch.submitted(session(), claim_of(session(), clock, duration_s=50.0))
    batch.ended(record(session(), gpu_s=30.0))
    assert (batch.summary().cost, batch.stats.audio_s) == (None, 50.0)
    assert "cost" not in batch.summary().text()
    assert batch.summary().text().startswith("Not complete: 1 succeeded"), "listed or not"
    batch = BatchProgress(clock, Decimal("0.0005"))
    batch.ended(record(session(), gpu_s=30.0))
    assert batch.summary().cost == Decimal("0.0150")  # less than one is not rounded to cents


def test_time_left_follows_the_pace_of_the_audio(batch: BatchProgress, clock: FakeClock) -> None:
    start(batch, clock, 4)
    clock.sleep(5)
    batch.ended(record(session(0), audio_s=3600.0))
    assert batch.stats.left_s() is None, "a batch's first seconds say nothing"
    clock.sleep(355)
    # 1 h of audio in 360 s; 3 h are left
    assert batch.stats.left_s() == pytest.approx(1080.0)


def test_only_open_jobs_and_twenty_failed_are_kept(batch: BatchProgress, clock: FakeClock) -> None:
    for number in range(3000):
        put = session(number)
        batch.stats.listed(planned(put))
        batch.submitted(put, claim_of(put, clock))
        batch.polled(put, JobProgress("running"))
        batch.ended(record(put, "failed" if number % 2 else "done"))
        batch.polled(put, JobProgress("running"))  # a poll that comes late
    assert not batch.stats.jobs
    assert not batch.stats.waiting
    assert batch.stats.results == {"done": 1500, "failed": 1500}
    named = batch.summary().text().splitlines()[1:23]
    assert named[0] == "  failed: 1,500"
    assert named[-2:] == ["    users/u1/audio/sessions/s39: said so", "    and 1,480 more"]


def test_record_says_how_the_last_submission_ended_without_secrets() -> None:
    outcome = Outcome(Result.LOST, "gone\nBearer abcdef", Ending.FORGOTTEN)
    made = record_end(Done(session(), outcome, claim_of(session(), FakeClock())))
    assert (made.result, made.code, made.submissions) == ("lost", "forgotten", ("forgotten",))
    assert made.message == "gone Bearer ***"

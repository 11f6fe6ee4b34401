"""What a batch counts, says at the end, and exits with."""

import json
from decimal import Decimal

import pytest

from edge_client.batch.progress import BatchProgress
from edge_client.batch.types import PlannedAction
from edge_client.jobs.poll import JobProgress
from tests.unit.edge_client.batch.samples import claim_of, planned, record, session, silent
from tests.unit.edge_client.samples import FakeClock

HOUR_OF_WAV = 32_000 * 3600


@pytest.fixture
def batch(clock: FakeClock) -> BatchProgress:
    return silent(clock)


def run(batch: BatchProgress, *results: str) -> None:
    """List one session for each result, and end it so."""
    for number, result in enumerate(results):
        batch.listed(planned(session(number)))
        batch.ended(record(session(number), result))
    batch.listing_ended()


def submit(batch: BatchProgress, clock: FakeClock, count: int) -> None:
    """Submit so many sessions of an hour."""
    for number in range(count):
        batch.listed(planned(session(number), size=HOUR_OF_WAV))
        batch.submitted(session(number), claim_of(session(number), clock))


def first_line(batch: BatchProgress) -> str:
    return batch.summary().text().splitlines()[0]


@pytest.mark.parametrize(
    ("result", "head", "exit_code"),
    [
        ("done", "Complete: 2 succeeded, 0 failed", 0),
        *((result, "Complete: 1 succeeded, 0 failed", 0) for result in ("skipped", "not_merged")),
        ("no_audio", "Complete: 1 succeeded, 0 failed", 0),
        *(
            (result, "Complete: 1 succeeded, 1 failed", 1)
            for result in ("failed", "lost", "cancelled", "refused", "failed_before", "of later")
        ),
        ("in_flight", "Not complete: 1 succeeded, 0 failed", 1),
    ],
)
def test_summary_and_exit_code_say_how_sessions_ended(
    batch: BatchProgress, result: str, head: str, exit_code: int
) -> None:
    run(batch, "done", result)
    assert first_line(batch) == head
    assert batch.summary().exit_code == exit_code
    is_named = "    users/u1/audio/sessions/s1: said so" in batch.summary().text().splitlines()
    assert is_named == (result != "done")


def test_nothing_to_do_is_said(batch: BatchProgress) -> None:
    batch.listed(planned(session(), PlannedAction.DONE))
    batch.listing_ended()
    assert batch.summary().text() == "No sessions pending transcription\n  already done: 1"
    assert batch.summary().exit_code == 0


@pytest.mark.parametrize("action", [action for action in PlannedAction if not action.is_work])
def test_session_that_ends_as_it_was_listed_counts_once(
    batch: BatchProgress, action: PlannedAction
) -> None:
    batch.listed(planned(session(), action, "so it is"))
    before = batch.stats.results.copy()
    batch.ended(record(session(), action.value))
    assert batch.stats.results == before


def test_first_twenty_are_named(batch: BatchProgress) -> None:
    for number in range(1234):
        batch.listed(planned(session(number), PlannedAction.NOT_MERGED, "2 chunks"))
    batch.listing_ended()
    lines = batch.summary().text().splitlines()
    assert lines[1] == "  not merged: 1,234 (chunks without an audio.wav)"
    assert lines[-2:] == ["    users/u1/audio/sessions/s19: 2 chunks", "    and 1,214 more"]


def test_what_is_still_open_is_not_complete(batch: BatchProgress, clock: FakeClock) -> None:
    for number in range(3):
        batch.listed(planned(session(number)))
    batch.submitted(session(1), claim_of(session(1), clock))
    batch.ended(record(session(2), "in_flight", message="two interrupts"))
    batch.listing_ended()
    text = batch.summary().text()
    assert text.splitlines()[:6] == [
        "Not complete: 0 succeeded, 0 failed",
        "  in flight: 2 (the same command follows them)",
        "    users/u1/audio/sessions/s2: two interrupts",
        "    users/u1/audio/sessions/s1: its job goes on",
        "  not submitted: 1 (the same command submits them)",
        "    users/u1/audio/sessions/s0: found, but not submitted yet",
    ]
    assert batch.summary().exit_code == 1
    assert batch.summary().text() == text, "a second summary changes nothing"


def test_listing_that_did_not_end_is_not_complete(batch: BatchProgress) -> None:
    batch.listed(planned(session()))
    batch.ended(record(session()))
    assert first_line(batch) == "Not complete: 1 succeeded, 0 failed; the listing did not end"
    assert batch.summary().exit_code == 1


def test_amounts_are_summed(batch: BatchProgress, clock: FakeClock) -> None:
    for number, gpu_s in enumerate((900.0, 1100.4, None)):
        batch.listed(planned(session(number)))
        batch.submitted(session(number), claim_of(session(number), clock))
        batch.ended(record(session(number), audio_s=4440.0, gpu_s=gpu_s))
    batch.listed(planned(session(9)))
    batch.ended(record(session(9), "failed", audio_s=60.0, gpu_s=100.0))
    clock.sleep(3725)
    assert batch.summary({"LIST": 102, "/run": 4}).text().splitlines()[-2:] == [
        "  3.7 h of audio, 2,100 GPU seconds (unknown for 1), cost 1.05, 1:02:05 of wall time",
        "  requests: 102 LIST, 4 /run",
    ]


def test_length_that_no_transcript_tells_is_the_claims(
    batch: BatchProgress, clock: FakeClock
) -> None:
    batch.submitted(session(), claim_of(session(), clock, duration_s=50.0))
    batch.ended(record(session()))
    batch.listing_ended()
    assert batch.stats.audio_s == 50.0
    assert first_line(batch) == "Complete: 1 succeeded, 0 failed", "listed or not"


@pytest.mark.parametrize(("gpu_s", "cost"), [(30.0, "0.0150"), (61_700.0, "30.85"), (0.0, "0")])
def test_cost_needs_a_price_and_keeps_the_digits_of_a_small_one(
    clock: FakeClock, gpu_s: float, cost: str
) -> None:
    for batch, expected in ((silent(clock), Decimal(cost)), (silent(clock, None), None)):
        batch.listed(planned(session()))
        batch.ended(record(session(), gpu_s=gpu_s))
        assert batch.summary().cost == expected
        assert ("cost" in batch.summary().text()) == (expected is not None)


def test_facts_are_for_programs(batch: BatchProgress) -> None:
    run(batch, "done", "failed", "skipped")
    facts = json.loads(json.dumps(batch.summary({"LIST": 1}).facts()))
    assert facts["counts"] == {"done": 1, "failed": 1, "skipped": 1}
    assert facts["named"]["failed"] == [
        {"session": "users/u1/audio/sessions/s1", "code": None, "message": "said so"}
    ]
    assert (facts["succeeded"], facts["failed"], facts["exit_code"]) == (1, 1, 1)
    assert facts["complete"] is True
    assert facts["requests"] == {"LIST": 1}
    assert facts["cost"] == 0.0


def test_remaining_time_follows_the_pace_of_the_audio(
    batch: BatchProgress, clock: FakeClock
) -> None:
    submit(batch, clock, 4)
    clock.sleep(5)
    batch.ended(record(session(0), audio_s=3600.0))
    assert batch.stats.left_s() is None, "a batch's first seconds say nothing"
    clock.sleep(355)
    batch.polled(session(1), JobProgress("running", "align", 50.0))
    # 1.5 h of audio in 360 s; 2.5 h are left
    assert batch.stats.left_s() == pytest.approx(600.0)


def test_work_done_before_this_run_does_not_count_for_its_pace(clock: FakeClock) -> None:
    earlier = claim_of(session(0), clock)
    clock.sleep(1000)
    batch = silent(clock)
    batch.listed(planned(session(0), PlannedAction.FOLLOW))
    batch.submitted(session(0), earlier)
    batch.polled(session(0), JobProgress("running", "align", 90.0))
    clock.sleep(60)
    assert batch.stats.left_s() is None, "nothing was transcribed yet"
    batch.polled(session(0), JobProgress("running", "align", 92.0))
    # 2 % took 60 s, 8 % are left
    assert batch.stats.left_s() == pytest.approx(240.0)


def test_only_what_is_open_is_kept(batch: BatchProgress, clock: FakeClock) -> None:
    for number in range(3000):
        put = session(number)
        batch.listed(planned(put))
        batch.submitted(put, claim_of(put, clock))
        batch.polled(put, JobProgress("running"))
        batch.ended(record(put, "failed" if number % 2 else "done"))
        batch.polled(put, JobProgress("running"))  # a poll that comes late
    assert not batch.stats.jobs
    assert not batch.stats.waiting
    assert batch.stats.results == {"done": 1500, "failed": 1500}
    assert len(batch.stats.named["failed"]) == 20

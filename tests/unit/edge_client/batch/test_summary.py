"""What is said at the end, and the exit code."""

import json
from decimal import Decimal

import pytest

from edge_client.batch.progress import CountingView
from edge_client.batch.results import Summary
from edge_client.batch.types import Need
from tests.unit.edge_client.batch.viewing import PRICE, claim_of, item, record, session
from tests.unit.edge_client.samples import FakeClock


@pytest.fixture
def view(clock: FakeClock) -> CountingView:
    return CountingView(clock, PRICE)


def run(view: CountingView, *results: str) -> None:
    """List one session for each result, and end it so."""
    for number, result in enumerate(results):
        view.listed(item(session(number)))
        view.ended(record(session(number), result))
    view.listing_ended()


def first_line(summary: Summary) -> str:
    return summary.text().splitlines()[0]


def test_nothing_to_do_is_said_like_the_seed_does(view: CountingView) -> None:
    view.listed(item(session(), Need.DONE))
    view.listing_ended()
    assert view.summary().text() == "No sessions pending transcription\n  already done: 1"
    assert view.summary().exit_code == 0


def test_all_done_is_zero(view: CountingView) -> None:
    run(view, "done", "done")
    assert first_line(view.summary()) == "Complete: 2 succeeded, 0 failed"
    assert view.summary().exit_code == 0


@pytest.mark.parametrize(
    "result", ["failed", "lost", "cancelled", "refused", "failed_before", "of a later version"]
)
def test_failure_is_one_and_named(view: CountingView, result: str) -> None:
    run(view, "done", result)
    summary = view.summary()
    assert first_line(summary) == "Complete: 1 succeeded, 1 failed"
    assert "    users/u1/audio/sessions/s1: said so" in summary.text().splitlines()
    assert summary.exit_code == 1


@pytest.mark.parametrize("result", ["skipped", "not_merged", "no_audio"])
def test_sessions_without_a_recording_are_named_but_no_failure(
    view: CountingView, result: str
) -> None:
    run(view, "done", result)
    assert first_line(view.summary()) == "Complete: 1 succeeded, 0 failed"
    assert "users/u1/audio/sessions/s1: said so" in view.summary().text()
    assert view.summary().exit_code == 0


def test_failures_of_before_count_and_have_a_remedy(view: CountingView) -> None:
    view.listed(item(session(), Need.FAILED_BEFORE, "OUT_OF_MEMORY: no room"))
    view.listing_ended()
    assert view.summary().text().splitlines() == [
        "No sessions pending transcription",
        "  failed before: 1 (--session, --retry-failed, --force or another recording run them)",
        "    users/u1/audio/sessions/s1: OUT_OF_MEMORY: no room",
    ]
    assert view.summary().exit_code == 1


@pytest.mark.parametrize("need", [n for n in Need if not n.is_work])
def test_session_that_the_engine_ends_as_it_was_listed_counts_once(
    view: CountingView, need: Need
) -> None:
    view.listed(item(session(), need, "so it is"))
    before = view.summary().counts
    view.ended(record(session(), need.value))
    assert view.summary().counts == before


def test_first_twenty_are_named(view: CountingView) -> None:
    for number in range(1234):
        view.listed(item(session(number), Need.NOT_MERGED, "2 chunks"))
    view.listing_ended()
    lines = view.summary().text().splitlines()
    assert lines[1] == "  not merged: 1,234 (chunks without an audio.wav)"
    assert lines[-2:] == ["    users/u1/audio/sessions/s19: 2 chunks", "    and 1,214 more"]


def test_what_is_still_open_is_not_complete(view: CountingView, clock: FakeClock) -> None:
    for number in range(3):
        view.listed(item(session(number)))
    view.submitted(session(1), claim_of(session(1), clock))
    view.ended(record(session(2), "out", message="two interrupts"))
    view.listing_ended()
    summary = view.summary()
    assert summary.text().splitlines()[:6] == [
        "Not complete: 0 succeeded, 0 failed",
        "  out: 2 (the same command follows them)",
        "    users/u1/audio/sessions/s2: two interrupts",
        "    users/u1/audio/sessions/s1: its job goes on",
        "  not submitted: 1 (the same command submits them)",
        "    users/u1/audio/sessions/s0: found, but its turn did not come",
    ]
    assert summary.exit_code == 1
    assert view.summary() == summary, "closing twice changes nothing"


def test_listing_that_did_not_end_is_not_complete(view: CountingView) -> None:
    view.listed(item(session()))
    view.ended(record(session()))
    assert first_line(view.summary()) == (
        "Not complete: 1 succeeded, 0 failed; the listing did not end"
    )
    assert view.summary().exit_code == 1


def test_amounts_are_summed(view: CountingView, clock: FakeClock) -> None:
    for number, gpu_s in enumerate((900.0, 1100.4, None)):
        view.listed(item(session(number)))
        view.submitted(session(number), claim_of(session(number), clock))
        view.ended(record(session(number), audio_s=4440.0, gpu_s=gpu_s))
    view.listed(item(session(9)))
    view.ended(record(session(9), "failed", audio_s=60.0, gpu_s=100.0))
    clock.sleep(3725)
    summary = view.summary({"LIST": 102, "/run": 4})
    assert summary.text().splitlines()[-2:] == [
        "  3.7 h of audio, 2,100 GPU seconds and what 1 jobs took (cost 1.05), "
        "1:02:05 by the clock",
        "  requests: 102 LIST, 4 /run",
    ]


def test_length_that_no_transcript_tells_is_the_claims(
    view: CountingView, clock: FakeClock
) -> None:
    view.submitted(session(), claim_of(session(), clock, duration_s=50.0))
    view.ended(record(session()))
    view.listing_ended()
    assert view.summary().audio_s == 50.0
    assert first_line(view.summary()) == "Complete: 1 succeeded, 0 failed", "listed or not"


def test_cost_needs_a_price(clock: FakeClock) -> None:
    view = CountingView(clock)
    run(view, "done")
    assert view.summary().cost is None
    assert "cost" not in view.summary().text()


@pytest.mark.parametrize(("gpu_s", "cost"), [(30.0, "0.0150"), (61_700.0, "30.85"), (0.0, "0")])
def test_small_costs_keep_their_digits(view: CountingView, gpu_s: float, cost: str) -> None:
    view.listed(item(session()))
    view.ended(record(session(), gpu_s=gpu_s))
    assert view.summary().cost == Decimal(cost)


def test_facts_are_for_programs(view: CountingView) -> None:
    run(view, "done", "failed", "skipped")
    facts = json.loads(json.dumps(view.summary({"LIST": 1}).facts()))
    assert facts["counts"] == {"done": 1, "failed": 1, "skipped": 1}
    assert facts["named"]["failed"] == [
        {"session": "users/u1/audio/sessions/s1", "code": None, "message": "said so"}
    ]
    assert (facts["succeeded"], facts["failed"], facts["exit_code"]) == (1, 1, 1)
    assert facts["complete"] is True
    assert facts["requests"] == {"LIST": 1}
    assert facts["cost"] == 0.0

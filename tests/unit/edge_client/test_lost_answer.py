"""A submission whose answer was lost: found, proven absent, or not known yet."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from edge_client.jobs import claim as claims
from edge_client.jobs.reconcile import SearchResult, find_unconfirmed
from edge_client.services.edge import Edge
from edge_client.services.runpod import is_idle
from tests.unit.edge_client.samples import SESSION, FakeClock, claim, job, transcript
from tests.unit.edge_client.servers import Reply, RunpodServer, S3Server

Search = Callable[[], SearchResult | None]


def counts(queued: int = 0, at_work: int = 0, running: int = 0) -> dict[str, Any]:
    return {
        "jobs": {"completed": 7, "failed": 1, "inQueue": queued, "inProgress": at_work},
        "workers": {"idle": 2, "running": running},
    }


QUIET = Reply(counts())


@pytest.fixture
def search(edge: Edge) -> Search:
    lost = claim(job_id=None)
    claims.store(edge.bucket, SESSION, lost, None)
    return partial(find_unconfirmed, edge, SESSION, lost, edge.clock.monotonic())


@pytest.mark.parametrize(
    ("health", "quiet"),
    [
        (counts(), True),
        (counts(queued=1), False),
        (counts(at_work=1), False),
        (counts(running=1), False),
        ({}, False),
        ({"jobs": {"inQueue": 0, "inProgress": 0}}, False),
        ({"jobs": {"inQueue": 0}, "workers": {"running": 0}}, False),
        ({"jobs": None, "workers": []}, False),
    ],
)
def test_only_zeros_that_are_said_are_quiet(health: dict[str, Any], quiet: bool) -> None:
    assert is_idle(health) is quiet


def test_transcript_of_the_request_is_found(search: Search, s3: S3Server) -> None:
    s3.put(SESSION.result_key, transcript())
    seen = search()
    assert seen is not None
    assert seen.delivered is not None


def test_transcript_of_another_request_is_not_it(search: Search, s3: S3Server) -> None:
    s3.put(SESSION.result_key, transcript(request_id="another"))
    assert search() is None


def test_absence_takes_quiet_for_longer_than_a_post_can_be_on_its_way(
    search: Search, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/health", QUIET)
    assert search() is None
    clock.sleep(119)
    assert search() is None
    clock.sleep(1)
    assert search() == SearchResult()


@pytest.mark.parametrize(
    "noise", [Reply(counts(queued=1)), Reply(counts(at_work=1)), Reply(status=401), Reply({})]
)
def test_anything_but_quiet_begins_the_count_anew(
    search: Search, runpod: RunpodServer, clock: FakeClock, noise: Reply
) -> None:
    runpod.on("/health", QUIET, noise, QUIET)
    for _ in range(3):
        assert search() is None
        clock.sleep(100)
    assert search() is None  # quiet for 100 s now
    clock.sleep(20)
    assert search() == SearchResult()


def test_job_that_ends_between_the_two_looks_is_not_missed(
    search: Search, s3: S3Server, runpod: RunpodServer, clock: FakeClock
) -> None:
    """S3 is read after the queue: who reads it before sees neither job nor transcript."""
    runpod.on("/health", QUIET)
    assert search() is None
    clock.sleep(500)

    def stored_after_the_last_look_at_the_queue(method: str, key: str) -> None:
        if runpod.count("/health") == 2:
            s3.put(SESSION.result_key, transcript())

    s3.refuse = stored_after_the_last_look_at_the_queue
    seen = search()
    assert seen is not None
    assert seen.delivered is not None


def test_id_that_the_posting_box_wrote_meanwhile_is_followed(search: Search, edge: Edge) -> None:
    held = claims.read(edge.bucket, SESSION)
    claims.store(edge.bucket, SESSION, claim(job_id="job-9"), held)
    seen = search()
    assert seen is not None
    assert seen.claim == claim(job_id="job-9")


def test_unreachable_queue_proves_nothing(
    search: Search, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/health", Reply(status=503))
    for _ in range(5):
        assert search() is None
        clock.sleep(1000)


def test_other_jobs_on_the_endpoint_keep_the_question_open(
    search: Search, runpod: RunpodServer, clock: FakeClock
) -> None:
    runpod.on("/health", Reply(counts(queued=3, at_work=2, running=2)))
    runpod.on("/status/job-1", Reply(job("IN_QUEUE")))
    for _ in range(5):
        assert search() is None
        clock.sleep(1000)

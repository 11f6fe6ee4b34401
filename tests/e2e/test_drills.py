"""What a fault costs a batch: each job that the queue took was paid for."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from math import inf
from types import SimpleNamespace

import pytest

from devstack.stack import ENDPOINT_ID
from edge_client.batch.types import RunConfig
from edge_client.clock import Clock
from edge_client.session import Session
from tests.e2e.drills import Drill, drilled
from tests.fakes.worker_process import SLOTS
from tests.faults.cases_s3 import archived
from tests.faults.proxy import Proxy, Rule
from tests.unit.edge_client.samples import claim


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drill]:
    with drilled(tmp_path_factory.mktemp("drills")) as made:
        yield made


@pytest.fixture
def drill(stack: Drill, request: pytest.FixtureRequest) -> Drill:
    return replace(stack, user=request.node.name[:30], before=len(stack.submissions()))


def test_poison_costs_three_jobs_a_session_in_five_batches_and_says_so(drill: Drill) -> None:
    drill.record(60, "--internal")
    paid, said, notes = [0], list[str](), list[str]()
    for _ in range(5):
        said.append(drill.batch())
        paid.append(drill.paid())
        notes += [note for note in drill.shown.notes if "submitting stops" in note]
    assert max(claim.submissions for claim in drill.claims()) <= 3
    assert all("jobs in a row failed, most with INTERNAL" in text for text in said)
    assert len(notes) == 5
    assert all(note.startswith("10 jobs in a row failed, most with INTERNAL") for note in notes)
    under_way = RunConfig.queue_floor + SLOTS
    assert max(after - before for before, after in itertools.pairwise(paid)) <= 10 + under_way + 1
    assert paid[-1] < 60 * 3


def test_wrong_model_fails_no_session_and_once_it_is_mended_all_are_done(drill: Drill) -> None:
    drill.record(30)
    drill.model.unlink()
    for _ in range(2):
        assert "MODEL_UNAVAILABLE" in drill.batch()
        assert set(drill.ends()) <= {"held", "in_flight"}
    assert {claim.ended for claim in drill.claims()} == {None}
    drill.model.touch()
    assert drill.batch() == ""
    assert drill.ends() == {"done": 30}


def test_one_bad_object_stops_nobody_and_is_named(
    drill: Drill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim of the year 9999, wishes that nobody knows, and a recording in Glacier."""
    far, odd, cold, *_ = drill.record(20)
    now = Clock().now()
    times = {"submitted_at": now - timedelta(hours=1), "expires_at": now + timedelta(hours=1)}

    def put_claim(session: Session, before: str, after: str) -> None:
        etag = drill.keys(session.audio_key)[session.audio_key]
        made = claim(session=session.prefix, audio_etag=etag, endpoint_id=ENDPOINT_ID, **times)
        text = made.model_dump_json()
        assert before in text
        drill.put(session.claim_key, text.replace(before, after).encode())

    put_claim(far, f"{times['expires_at']:%Y}", "9999")
    put_claim(odd, '"wanted":{', '"wanted":{"colour":"red","audio_url":"https://a.example",')
    owner = SimpleNamespace(owns=lambda exchange: cold.audio_key in exchange.path)
    with Proxy(drill.stack.s3.url) as s3:
        s3.rules.append(Rule(lambda exchange: exchange.method == "GET", archived, inf, owner))
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.url)
        assert drill.batch() == ""
    bad = {each.name: drill.shown.records[each.name] for each in (far, cold)}
    assert "is not this client's: --force replaces it" in bad[far.name].message
    assert "archived: restore it" in bad[cold.name].message
    assert drill.ends()["done"] == 18
    assert drill.paid() == 18

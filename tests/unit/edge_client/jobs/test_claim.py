"""Claims: of two edge boxes one wins, and the other knows it."""

from datetime import timedelta

import pytest

from edge_client.errors import ClaimConflict
from edge_client.jobs import claim as claims
from edge_client.services.edge import Edge
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import NOW, SESSION, claim


def test_of_two_boxes_one_is_told_that_it_lost(edge: Edge) -> None:
    first = claims.store(edge.bucket, SESSION, claim(), None)
    assert first.claim == claim()
    # botocore repeats a PUT whose answer got lost, and then meets its own object
    assert claims.store(edge.bucket, SESSION, claim(), None) == first
    with pytest.raises(ClaimConflict, match=f"edge-client wait {SESSION}"):
        claims.store(edge.bucket, SESSION, claim(request_id="r2"), None)
    claims.store(edge.bucket, SESSION, claim(request_id="r2"), first)
    with pytest.raises(ClaimConflict):
        claims.store(edge.bucket, SESSION, claim(request_id="r3"), first)


def test_foreign_object_is_no_claim_and_newer_fields_are_ignored(edge: Edge, s3: S3Server) -> None:
    newer = claim().model_dump_json().replace("{", '{"attempt": 3, ', 1).encode()
    for body in (b"", b"{}", b'{"version": 2}', b"\xff", newer):
        s3.put(SESSION.claim_key, body)
        held = claims.read(edge.bucket, SESSION)
        assert held is not None
        assert held.claim == (claim() if body is newer else None)


def test_claim_lives_as_long_as_its_job_and_the_clocks_differ() -> None:
    end = NOW + timedelta(hours=2)
    assert claim().is_alive(end + timedelta(minutes=4))
    assert not claim().is_alive(end + timedelta(minutes=5))
    assert not claim().released(NOW).is_alive(NOW)

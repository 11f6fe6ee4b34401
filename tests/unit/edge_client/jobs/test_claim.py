"""Claims: of two edge boxes one wins, and the other knows it."""

import json
from datetime import timedelta

import pytest

from bucketscribe_contract import JobOptions
from edge_client.errors import ClaimConflict, ObjectRefused
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import Attempt, StoredClaim, Wanted
from edge_client.services.edge import Edge
from edge_client.session import Session
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


def test_a_listing_tells_a_done_sessions_claim_by_its_size(edge: Edge) -> None:
    longest = Session("u" * 480, "s" * 480)  # a key has 1,024 bytes at most
    wanted = Wanted(options=JobOptions(initial_prompt="p" * 4000))
    written = claim(
        session=longest.prefix, wanted=wanted, earlier=(Attempt(request_id="r0", ended="lost"),)
    )
    held, sizes = None, []
    for each in (claim(), claim(ended="INTERNAL: it broke"), written, written.closed_as_done()):
        held = claims.store(edge.bucket, longest, each, held)
        found = edge.bucket.head(longest.claim_key)
        sizes.append(found is not None and found.size_bytes < claims.OPEN_BYTES)
    assert sizes == [False, False, False, True]


WRITTEN = claim().model_dump(mode="json")


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"\xff", b"[" * 60_000),
        *(
            json.dumps(WRITTEN | field).encode()
            for field in (
                {"version": 0},
                {"expires_at": "9999-12-31T23:59:59Z"},
                {"submitted_at": "1970-01-01T00:00:00Z"},
                {"audio_bytes": -1},
                {"duration_s": 1e300},
                {"execution_timeout_s": 10**9},
                {"earlier": [{"request_id": "r", "ended": "crashed"}] * 101},
                {"job_id": "j" * 4097},
            )
        ),
    ],
)
def test_what_no_client_of_ours_would_write_is_no_claim(
    edge: Edge, s3: S3Server, body: bytes
) -> None:
    s3.put(SESSION.claim_key, body)
    assert claims.read(edge.bucket, SESSION) == StoredClaim(
        None, s3.objects[SESSION.claim_key].etag
    )


def test_newer_fields_are_ignored_and_a_copied_folders_claim_is_another_sessions(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.claim_key, json.dumps(WRITTEN | {"attempt": {"n": 3}}).encode())
    assert claims.current(edge.bucket, SESSION) == claim()
    copy = Session("u2", "s1")
    s3.objects[copy.claim_key] = s3.objects[SESSION.claim_key]
    held = claims.read(edge.bucket, copy)
    assert held is not None
    assert (held.claim, held.is_copy) == (None, True)
    mine = claim(session=copy.prefix)
    assert claims.store(edge.bucket, copy, mine, held).claim == mine


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"version": 2, "session": {"by": "id"}}', "version 2.*update this"),
        (json.dumps(WRITTEN | {"version": 3}).encode(), "version 3.*update this"),
        (json.dumps(WRITTEN | {"x": "y" * 65_536}).encode(), "over the limit of 65,536"),
    ],
)
def test_newer_or_huge_claim_is_named_and_never_replaced(
    edge: Edge, s3: S3Server, body: bytes, said: str
) -> None:
    s3.put(SESSION.claim_key, body)
    for act in (claims.read, lambda *at: claims.store(*at, claim(), None)):
        with pytest.raises(ObjectRefused, match=f"{SESSION.claim_key}.*{said}"):
            act(edge.bucket, SESSION)
    assert s3.objects[SESSION.claim_key].body == body


def test_claim_lives_as_long_as_its_job_and_the_clocks_differ() -> None:
    end = NOW + timedelta(hours=2)
    assert claim().is_alive(end + timedelta(minutes=4))
    assert not claim().is_alive(end + timedelta(minutes=5))
    assert not claim().released(NOW).is_alive(NOW)

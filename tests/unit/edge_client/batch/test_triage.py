"""From the bucket to what each session needs: as few calls as can be, nothing written."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from edge_client.batch.listing import Scope
from edge_client.batch.plan import Wishes, items
from edge_client.batch.types import Item, Need
from edge_client.errors import StorageRefused
from edge_client.jobs import claim as claims
from edge_client.services.edge import Edge
from edge_client.session import Session
from tests.unit.edge_client.samples import NOW, SESSION, claim, transcript, wav
from tests.unit.edge_client.servers import S3Server

HOUR = timedelta(hours=1)
EVERYTHING = Scope()
Go = Callable[..., list[Item]]


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("lister", "in-order"))]


@pytest.fixture
def go(edge: Edge) -> Go:
    def run(scope: Scope = EVERYTHING, **wishes: object) -> list[Item]:
        return list(items(edge, scope, Wishes(**wishes)))  # type: ignore[arg-type]

    return run


def needs(found: list[Item]) -> Counter[Need]:
    return Counter(item.need for item in found)


def put_claim(s3: S3Server, session: Session, **changes: object) -> None:
    etag = s3.objects[session.audio_key].etag
    stored = claim(**({"session": session.prefix, "audio_etag": etag} | changes))
    s3.put(session.claim_key, stored.model_dump_json().encode())


def test_a_claim_comes_as_it_was_read(edge: Edge, s3: S3Server, go: Go) -> None:
    s3.put(SESSION.audio_key, wav())
    put_claim(s3, SESSION)
    (item,) = go()
    assert item.need is Need.FOLLOW
    assert item.held == claims.read(edge.bucket, SESSION)


def test_a_bucket_costs_a_list_and_a_get_for_each_doubt(s3: S3Server, go: Go) -> None:
    for number in range(40):
        session = Session("u", f"new-{number}")
        s3.put(session.audio_key, wav())
        done = Session("u", f"done-{number}")
        s3.put(done.audio_key, wav(), NOW - HOUR)
        s3.put(done.claim_key, b"{}", NOW - HOUR + timedelta(minutes=1))
        s3.put(done.result_key, transcript())
        out = Session("u", f"out-{number}")
        s3.put(out.audio_key, wav())
        put_claim(s3, out)
    found = go()
    assert needs(found) == {Need.SUBMIT: 40, Need.DONE: 40, Need.FOLLOW: 40}
    assert [i.session.name for i in found] == sorted(i.session.name for i in found)
    methods = Counter((method, key.rpartition("/")[2]) for method, key in s3.calls)
    assert methods == {("GET", ""): 1, ("GET", "transcription.job.json"): 40}


def test_a_transcript_is_read_where_its_claim_leaves_a_doubt(s3: S3Server, go: Go) -> None:
    s3.put(SESSION.audio_key, wav())
    put_claim(s3, SESSION, audio_etag='"before"')
    s3.put(SESSION.result_key, transcript(request_id="r1"))
    assert needs(go()) == {Need.SUBMIT: 1}
    s3.put(SESSION.result_key, transcript(request_id="by other means"))
    assert needs(go()) == {Need.DONE: 1}


def test_the_limit_counts_work_alone_and_ends_the_listing(s3: S3Server, go: Go) -> None:
    s3.page_keys = 5
    for number in range(100):
        s3.put(Session("u1", f"s{number:03}").audio_key, wav())
    s3.put(f"{Session('u0', 's').prefix}/chunk-001.webm", b"c")
    found = go(limit=3)
    assert needs(found) == {Need.NOT_MERGED: 1, Need.SUBMIT: 3}
    assert len(s3.lists) < 12
    assert go(limit=0) == []


def test_older_recordings_are_left_out(s3: S3Server, go: Go) -> None:
    s3.put(Session("u", "old").audio_key, wav(), NOW - HOUR)
    s3.put(Session("u", "young").audio_key, wav(), NOW)
    s3.put(f"{Session('u', 'parts').prefix}/chunk-001.webm", b"c", NOW - HOUR)
    found = go(since=NOW)
    assert {item.session.name for item in found} == {"young", "parts"}


def test_a_named_session_runs_although_it_failed_for_good(s3: S3Server, go: Go) -> None:
    s3.put(SESSION.audio_key, wav())
    put_claim(s3, SESSION, ended="AUDIO_UNREADABLE: x")
    assert needs(go()) == {Need.FAILED_BEFORE: 1}
    assert needs(go(retry=frozenset([SESSION.prefix]))) == {Need.SUBMIT: 1}
    assert needs(go(Scope(sessions=(SESSION,)))) == {Need.SUBMIT: 1}


def test_a_named_session_that_is_not_there_is_refused(s3: S3Server, go: Go) -> None:
    s3.put(f"{Session('u', 'parts').prefix}/chunk-001.webm", b"c")
    s3.put(f"{Session('u', 'empty').prefix}/metadata.json", b"{}")
    named = tuple(Session("u", name) for name in ("typo", "parts", "empty"))
    found = go(Scope(sessions=named))
    assert [item.need for item in found] == [Need.REFUSED, Need.NOT_MERGED, Need.REFUSED]
    assert "check the session's name" in found[0].why
    assert needs(go()) == {Need.NOT_MERGED: 1, Need.NO_AUDIO: 1}


def test_one_user_alone_is_triaged(s3: S3Server, go: Go) -> None:
    for user in ("u1", "u2"):
        s3.put(Session(user, "s").audio_key, wav())
    assert [item.session.user for item in go(Scope(user="u2"))] == ["u2"]


def test_a_claim_that_may_not_be_read_ends_the_listing(s3: S3Server, go: Go) -> None:
    s3.put(SESSION.audio_key, wav())
    put_claim(s3, SESSION)
    s3.refuse = lambda method, key: (403, "AccessDenied") if key.endswith(".job.json") else None
    with pytest.raises(StorageRefused, match="403"):
        go()

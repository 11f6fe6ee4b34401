"""Listing: every session once in any order, in few calls, and never far ahead of the consumer."""

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_client.batch import listing as scan_module
from edge_client.batch.listing import Scope, scan
from edge_client.batch.types import Found
from edge_client.errors import SessionNotFound, StorageRefused, Unreachable
from edge_client.services.edge import Edge
from edge_client.services.s3 import Bucket, ObjectInfo, Page
from edge_client.session import Session
from tests.unit.edge_client import listing
from tests.unit.edge_client.servers import S3Server

AT = datetime(2026, 11, 1, tzinfo=UTC)
ORDERS = (listing.bytewise, listing.by_folders)
EVERYTHING = Scope()


class DictBucket(Bucket):
    """A bucket's LIST without the network."""

    def __init__(self, keys: set[str], order: listing.Order, page_keys: int = 1000) -> None:
        self.order, self.page_keys = order, page_keys
        self.flat = self.folded = 0
        self.hold(keys)

    def hold(self, keys: set[str]) -> None:
        """Have these keys from now on."""
        in_order = sorted(keys, key=self.order)
        self.held = in_order, [self.order(key) for key in in_order]

    def list_page(self, prefix: str, after: str = "", *, delimiter: str = "") -> Page:
        """Return a page."""
        self.folded += bool(delimiter)
        self.flat += not delimiter
        held, places = self.held
        left = held[bisect_right(places, self.order(after)) if after else 0 :]
        below = (key for key in left if key.startswith(prefix))
        near = islice(below, None if delimiter else self.page_keys + 1)
        keys, folders, more = listing.page_of(
            near, self.order, prefix, after, delimiter, self.page_keys
        )
        infos = tuple(ObjectInfo(key, '"e"', 1, AT) for key in keys)
        return Page(infos, tuple(folders), more)


@pytest.fixture(autouse=True)
def _no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "lister"]


def session_keys(user: str, names: list[str], *files: str) -> set[str]:
    files = files or ("audio.wav",)
    return {f"users/{user}/audio/sessions/{name}/{file}" for name in names for file in files}


def test_a_session_is_its_three_objects_and_its_chunks(edge: Edge, s3: S3Server) -> None:
    session = Session("u 1", "s+ü")
    for number in range(3):
        s3.put(f"{session.prefix}/chunk-{number:03}.webm", b"c")
    for key in (session.audio_key, session.result_key, session.claim_key, session.progress_key):
        s3.put(key, key.encode())
    s3.put(f"{session.prefix}/metadata.json", b"{}")
    (found,) = scan(edge.bucket, EVERYTHING)
    described = [edge.bucket.head(k) for k in (session.audio_key, session.result_key)]
    assert [found.audio, found.transcript] == described
    assert found.claim == edge.bucket.head(session.claim_key)
    assert (found.session, found.chunks) == (session, 3)


def test_a_bucket_of_one_page_costs_one_call(edge: Edge, s3: S3Server) -> None:
    for number in range(900):
        s3.put(Session("u", f"s{number}").audio_key, b"")
    assert len(list(scan(edge.bucket, EVERYTHING))) == 900
    assert len(s3.calls) == 1


names = st.text(st.sampled_from(" -0a~é\U00010000"), min_size=1, max_size=3)
files = st.sampled_from(["audio.wav", "transcription.json", "chunk-1.webm", "x/y.png", ""])
places = st.one_of(
    st.builds("audio/sessions/{}/{}".format, names, files),
    st.builds("audio/sessions/{}".format, names),
    st.builds("audio/{}".format, names),
    st.builds("{}/{}".format, names, names),
)
keys = st.sets(
    st.one_of(st.builds("users/{}/{}".format, names, places), st.builds("users/{}".format, names)),
    max_size=60,
)


@given(keys=keys, order=st.sampled_from(ORDERS), page_keys=st.integers(1, 7))
@settings(max_examples=300, deadline=None)
def test_every_session_comes_once(keys: set[str], order: listing.Order, page_keys: int) -> None:
    with patch.object(scan_module, "PAGES_A_HALVING", 2):
        found = list(scan(DictBucket(keys, order, page_keys), EVERYTHING))
    wanted = Counter[str]()
    for key in keys:
        parts = key.split("/")
        if len(parts) > 5 and parts[2:4] == ["audio", "sessions"]:
            wanted["/".join(parts[:5])] += parts[5:] == ["chunk-1.webm"]
    assert Counter(f.session.prefix for f in found) == Counter(wanted.keys())
    assert {f.session.prefix: f.chunks for f in found} == dict(wanted)
    with_audio = {f"{prefix}/audio.wav" for prefix in wanted} & keys
    assert {f.audio.key for f in found if f.audio} == with_audio


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("sizes", [[100] * 30, [2900] + [10] * 10, [1] * 3000, [1500, 1500]])
def test_calls_stay_near_the_least_there_can_be(order: listing.Order, sizes: list[int]) -> None:
    keys = {
        key
        for user, size in enumerate(sizes)
        for key in session_keys(f"u{user}", [f"s{number}" for number in range(size)])
    }
    bucket = DictBucket(keys, order, page_keys=10)
    assert len(list(scan(bucket, EVERYTHING))) == len(keys)
    assert len(keys) / 10 <= bucket.flat <= len(keys) / 10 * 1.02
    assert bucket.folded <= (1 if len(sizes) <= 11 else 1 + len(keys) / 640)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("junk", ["0/{}", "audio/a{}", "audio/z{}", "zzz/{}", "audio-old/{}"])
def test_other_things_of_a_user_are_jumped_over(order: listing.Order, junk: str) -> None:
    keys = {
        f"users/{user}/{junk.format(f'{number:04}')}" for user in "abc" for number in range(1000)
    }
    sessions = set().union(*(session_keys(user, ["s1", "s2"]) for user in "ac"))
    bucket = DictBucket(keys | sessions, order, page_keys=10)
    assert len(list(scan(bucket, EVERYTHING))) == 4
    assert bucket.flat < 15


def test_a_session_of_many_pages_is_one() -> None:
    chunks = [f"chunk-{number}.webm" for number in range(10_000)]
    bucket = DictBucket(session_keys("u", ["s1"], *chunks), listing.bytewise)
    (found,) = scan(bucket, EVERYTHING)
    assert found == Found(Session("u", "s1"), chunks=10_000)
    assert bucket.flat == 10


class Stepping(DictBucket):
    """Counts its pages, and waits before each one past ``free``."""

    def __init__(self, keys: set[str], free: int) -> None:
        super().__init__(keys, listing.bytewise, page_keys=10)
        self.go = threading.Event()
        self.free = free

    def list_page(self, *args: Any, **kwargs: Any) -> Page:
        """Return a page when it may."""
        if self.flat + self.folded >= self.free:
            assert self.go.wait(10)
        return super().list_page(*args, **kwargs)


SPREAD = set().union(
    *(session_keys(f"u{user:03}", [f"s{n}" for n in range(10)]) for user in range(300))
)


def test_the_first_session_comes_after_the_first_page() -> None:
    bucket = Stepping(SPREAD, free=1)
    found = scan(bucket, EVERYTHING)
    assert next(found).session == Session("u000", "s0")
    bucket.go.set()
    assert len(list(found)) == 2999


def test_a_slow_consumer_pauses_the_listers_and_closing_stops_them() -> None:
    bucket = DictBucket(SPREAD, listing.bytewise, page_keys=10)
    found = scan(bucket, EVERYTHING)
    assert len(list(islice(found, 15))) == 15
    listers = [t for t in threading.enumerate() if t.name == "lister"]
    assert len(listers) == 2
    waiting, drawn, in_hand = scan_module.PAGES_WAITING, 2, 2
    for _ in range(500):
        listers[0].join(0.01)  # it never ends: nobody takes what it found
        if bucket.flat >= waiting + drawn + in_hand:
            break
    listers[0].join(0.1)
    assert bucket.flat == waiting + drawn + in_hand
    found.close()
    assert not [t for t in listers if t.is_alive()]
    assert bucket.flat == waiting + drawn + in_hand


def test_a_slow_consumer_misses_nothing() -> None:
    bucket = DictBucket(SPREAD, listing.bytewise, page_keys=10)
    seen = []
    for number, found in enumerate(scan(bucket, EVERYTHING)):
        seen.append(found.session)
        if number == 1500:  # a user appears, a user goes
            gone = session_keys("u299", [f"s{n}" for n in range(10)])
            bucket.hold((SPREAD - gone) | session_keys("u149-", ["s0"]))
    assert len(seen) == len(set(seen))
    assert set(seen) >= {Session(f"u{user:03}", "s9") for user in range(299)}


def test_refusals_come_out_of_the_iterator(edge: Edge, s3: S3Server) -> None:
    s3.refuse = lambda method, key: (403, "AccessDenied")
    with pytest.raises(StorageRefused, match="403"):
        next(scan(edge.bucket, EVERYTHING))


class Failing(DictBucket):
    """Fails at its 20th page."""

    def list_page(self, *args: Any, **kwargs: Any) -> Page:
        """Return a page, or fail."""
        if self.flat == 20:
            raise Unreachable("S3 is away")
        return super().list_page(*args, **kwargs)


def test_a_lister_that_fails_ends_the_listing() -> None:
    bucket = Failing(SPREAD, listing.bytewise, page_keys=10)
    with pytest.raises(Unreachable, match="away"):
        list(scan(bucket, EVERYTHING))


def test_a_page_that_says_nothing_is_refused(edge: Edge, s3: S3Server) -> None:
    s3.put("users/a", b"")
    s3.page_keys = 0
    with pytest.raises(StorageRefused, match="shows nothing"):
        list(scan(edge.bucket, EVERYTHING))


def test_named_sessions_cost_a_call_each_and_come_in_order() -> None:
    bucket = DictBucket(SPREAD, listing.bytewise)
    wanted = (Session("u200", "s3"), Session("u001", "s1"), Session("u200", "s3"), Session("u", ""))
    found = list(scan(bucket, Scope(sessions=wanted)))
    assert [f.session for f in found] == [wanted[0], wanted[1], wanted[3]]
    assert [f.audio is None for f in found] == [False, False, True]
    assert bucket.flat == 3


def test_a_user_is_listed_alone() -> None:
    bucket = DictBucket(SPREAD, listing.bytewise, page_keys=4)
    found = list(scan(bucket, Scope(user="u010")))
    assert [f.session.name for f in found] == [f"s{n}" for n in range(10)]
    assert bucket.flat == 3


def test_a_user_without_sessions_is_named() -> None:
    with pytest.raises(SessionNotFound, match=r"'nobody'.*--user"):
        list(scan(DictBucket(SPREAD, listing.bytewise), Scope(user="nobody")))

"""Listing: every session once in any order, in few calls, and never far ahead of the consumer."""

import threading
from collections import Counter
from functools import partial
from itertools import chain, islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_client.batch.listing import in_order, list_sessions
from edge_client.batch.types import Filter, ListedSession
from edge_client.errors import SessionNotFound, StorageRefused, Unreachable
from edge_client.services.edge import Edge
from edge_client.services.s3 import Bucket, ObjectInfo, Page
from edge_client.session import RecordingPattern, Session
from tests.fakes import listing
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import NOW

ORDERS = (listing.bytewise, listing.by_folders)
ALL = Filter()


class DictBucket(Bucket):
    """A bucket's LIST without the network, in the order of either server."""

    def __init__(
        self, keys: set[str], order: listing.Order = listing.bytewise, page_keys: int = 1000
    ) -> None:
        self.keys, self.order, self.page_keys, self.calls = keys, order, page_keys, 0

    def list_page(self, prefix: str, after: str = "") -> Page:
        """Return a page."""
        self.calls += 1
        keys, _, more = listing.page_of(self.keys, self.order, prefix, after, "", self.page_keys)
        return Page(tuple(ObjectInfo(key, '"e"', 1, NOW) for key in keys), more)


def recordings(user: str, count: int) -> set[str]:
    return {Session(user, f"s{number}").audio_key for number in range(count)}


SPREAD = set().union(*(recordings(f"u{user:02}", 10) for user in range(30)))


def test_session_is_its_three_objects_and_its_chunks(edge: Edge, s3: S3Server) -> None:
    session = Session("u 1", "s+ü")
    for number in range(3):
        s3.put(f"{session.prefix}/chunk-{number:03}.webm", b"c")
    for key in (session.audio_key, session.result_key, session.claim_key, session.progress_key):
        s3.put(key, key.encode())
    s3.put(f"{session.prefix}/metadata.json", b"{}")
    named = (session.audio_key, session.result_key, session.claim_key)
    wanted = ListedSession(session, *map(edge.bucket.head, named), chunks=3)
    assert list(list_sessions(edge.bucket, ALL)) == [wanted]


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
    listed = list(list_sessions(DictBucket(keys, order, page_keys), ALL))
    wanted = Counter[str]()
    for key in keys:
        parts = key.split("/")
        if len(parts) > 5 and parts[2:4] == ["audio", "sessions"]:
            wanted["/".join(parts[:5])] += parts[5:] == ["chunk-1.webm"]
    assert len(listed) == len(wanted)
    assert {each.session.prefix: each.chunks for each in listed} == dict(wanted)
    with_audio = {f"{prefix}/audio.wav" for prefix in wanted} & keys
    assert {each.audio.key for each in listed if each.audio} == with_audio


stems = st.text(st.sampled_from("ab.-"), min_size=1, max_size=4)
endings = st.sampled_from(["mp3", "transcription.json", "transcription.job.json", "wav", "b.mp3"])


@given(
    keys=st.sets(st.builds("calls/{}/{}.{}".format, names, stems, endings), max_size=40),
    order=st.sampled_from(ORDERS),
    page_keys=st.integers(1, 7),
)
@example({f"calls/u/{name}" for name in ("a.mp3", "a.n.mp3", "a.transcription.json")}, ORDERS[0], 2)
@settings(max_examples=300, deadline=None)
def test_every_recording_of_a_pattern_comes_once_with_what_is_beside_it(
    keys: set[str], order: listing.Order, page_keys: int
) -> None:
    bucket = DictBucket(keys, order, page_keys)
    bucket.recordings = RecordingPattern("calls/{user}/{stem}.mp3")
    listed = list(list_sessions(bucket, ALL))
    wanted: dict[str, set[str]] = {}
    for key in keys:
        for ending in ("transcription.json", "transcription.job.json", "mp3"):
            stem = key.removesuffix(f".{ending}")
            if key != stem and not stem.endswith("/"):
                wanted.setdefault(f"{stem}.mp3", set()).add(key)
    found = {
        each.session.audio_key: {
            info.key for info in (each.audio, each.transcript, each.claim) if info is not None
        }
        for each in listed
    }
    assert (found, len(listed)) == (wanted, len(wanted))
    for each in listed[:3]:
        assert list(list_sessions(bucket, Filter(sessions=(each.session,)))) == [each]
        of_user = list_sessions(bucket, Filter(user=each.session.user))
        assert list(of_user) == [one for one in listed if one.session.user == each.session.user]


@pytest.mark.parametrize("order", ORDERS)
def test_calls_are_the_fewest_and_other_things_are_jumped_over(order: listing.Order) -> None:
    for sizes in ([10] * 30, [290] + [1] * 10, [1] * 300):
        keys = set().union(*(recordings(f"u{user}", size) for user, size in enumerate(sizes)))
        bucket = DictBucket(keys, order, page_keys=10)
        assert len(list(list_sessions(bucket, ALL))) == len(keys)
        assert bucket.calls == len(keys) / 10
    for junk in ("0/{}", "audio/a{}", "audio/z{}", "zzz/{}", "audio-old/{}"):
        keys = {f"users/{user}/{junk.format(n)}" for user in "abc" for n in range(100, 400)}
        bucket = DictBucket(keys | recordings("a", 2) | recordings("c", 2), order, page_keys=10)
        assert len(list(list_sessions(bucket, ALL))) == 4
        assert bucket.calls < 15, junk


def test_pages_are_listed_as_they_are_consumed_and_nothing_is_missed() -> None:
    bucket = DictBucket(SPREAD, page_keys=10)
    listed = list_sessions(bucket, ALL)
    seen = [next(listed).session]
    assert bucket.calls == 1, "the first session comes after the first page"
    seen += [each.session for each in islice(listed, 150)]
    assert bucket.calls == 16, "a slow consumer is never far behind"
    bucket.keys = (SPREAD - recordings("u29", 10)) | recordings("u14-", 1)  # one comes, one goes
    seen += [each.session for each in listed]
    assert len(seen) == len(set(seen))
    assert set(seen) >= {Session(f"u{user:02}", "s9") for user in range(29)}


def test_errors_come_out_of_the_iterator(edge: Edge, s3: S3Server) -> None:
    s3.put("users/a", b"")
    s3.page_keys = 0
    with pytest.raises(StorageRefused, match="shows nothing"):
        list(list_sessions(edge.bucket, ALL))
    s3.refuse = lambda method, key: (403, "AccessDenied")
    with pytest.raises(StorageRefused, match="403"):
        next(list_sessions(edge.bucket, ALL))


def test_named_sessions_cost_a_call_each_and_a_user_is_listed_alone_or_refused() -> None:
    bucket = DictBucket(SPREAD)
    wanted = (Session("u20", "s3"), Session("u01", "s1"), Session("u20", "s3"), Session("u", ""))
    listed = list(list_sessions(bucket, Filter(sessions=wanted)))
    assert [each.session for each in listed] == [wanted[0], wanted[1], wanted[3]]
    assert [each.audio is None for each in listed] == [False, False, True]
    assert bucket.calls == 3
    bucket = DictBucket(SPREAD, page_keys=4)
    listed = list(list_sessions(bucket, Filter(user="u10")))
    assert [each.session.name for each in listed] == [f"s{n}" for n in range(10)]
    assert bucket.calls == 3
    with pytest.raises(SessionNotFound, match=r"'nobody'.*--user"):
        list(list_sessions(bucket, Filter(user="nobody")))


def test_values_come_in_order_and_no_more_are_drawn_than_needed_or_allowed() -> None:
    later = threading.Event()
    made = in_order([0, partial(later.wait, 10), partial(later.set), 3], workers=2, ahead=9)
    assert list(made) == [0, True, None, 3]
    drawn: list[int] = []
    values = (drawn.append(number) or number for number in range(3))
    for number in in_order(values, workers=1, ahead=9):
        assert drawn == list(range(number + 1))
    go = threading.Event()
    drawn.clear()
    values = (drawn.append(number) or (number == 3 and go.set()) or number for number in range(100))
    made = in_order(chain([partial(go.wait, 10)], values), workers=1, ahead=5)
    assert next(made) is True
    assert drawn == [0, 1, 2, 3]
    assert list(made) == list(range(100))


def test_failure_comes_in_its_place_and_closing_ends_the_threads() -> None:
    def fails() -> int:
        raise Unreachable("S3 is away")

    made = in_order([1, partial(fails), 3], workers=1, ahead=9)
    assert next(made) == 1
    with pytest.raises(Unreachable):
        next(made)
    closed = in_order([partial(int), 2, 3], workers=1, ahead=1)
    assert next(closed) == 0
    closed.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("in-order")]

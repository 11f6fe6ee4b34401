"""What a batch does with a session: from the listing, from its claim, and in as few calls."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from edge_client.batch import plan as plan_
from edge_client.batch.plan import ClaimedSession, from_listing, plan
from edge_client.batch.types import Filter, ListedSession, PlannedAction, PlannedSession
from edge_client.jobs import claim as claims
from edge_client.jobs.claim import GRACE, StoredClaim
from edge_client.jobs.transcript import Delivered, StoredTranscript
from edge_client.services.edge import Edge
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import NOW, SESSION, claim, put_claim, transcript, wav

ALL, KEEP_STALE, FORCE = Filter(), Filter(stale=False), Filter(force=True)
VERIFY, CHANGED = Filter(verify=True), Filter(changed=True)
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)
SUBMIT, FOLLOW, DONE = PlannedAction.SUBMIT, PlannedAction.FOLLOW, PlannedAction.DONE
NOT_MERGED, NO_AUDIO = PlannedAction.NOT_MERGED, PlannedAction.NO_AUDIO
FAILED_BEFORE, REFUSED = PlannedAction.FAILED_BEFORE, PlannedAction.REFUSED
UNPROVEN = PlannedAction.UNPROVEN


def stored(key: str, at: datetime = NOW, size_bytes: int = 100) -> ObjectInfo:
    return ObjectInfo(key, '"e1"', size_bytes, at)


AUDIO = stored(SESSION.audio_key)
NO_BYTES = replace(AUDIO, size_bytes=0)
LATER = stored(SESSION.result_key, NOW + HOUR)
SAME_TIME = replace(LATER, modified_at=NOW)
EARLIER = replace(LATER, modified_at=NOW - SECOND)
EMPTY = replace(LATER, size_bytes=0)
CLAIM = stored(SESSION.claim_key, NOW + 2 * SECOND)
CLOSED = replace(CLAIM, modified_at=NOW + HOUR)
SECOND_EARLIER = replace(CLAIM, modified_at=NOW + SECOND)
DELIVERED = Delivered(1, 1, 2.0, 0.5, "en", (), 100)
OURS, NOT_OURS = ("r1", None), (None, None)
OF_THIS, OF_OTHER = ("r0", '"e1"'), ("r0", '"e0"')


@pytest.mark.parametrize(
    ("chosen", "listed", "action", "why"),
    [
        (ALL, {}, SUBMIT, "new"),
        (ALL, {"transcript": SAME_TIME}, DONE, "done"),
        (ALL, {"transcript": EARLIER}, SUBMIT, plan_.STALE),
        (KEEP_STALE, {"transcript": EARLIER, "claim": CLAIM}, DONE, plan_.LEFT_STALE),
        (KEEP_STALE, {"transcript": LATER}, DONE, "done"),
        (ALL, {"transcript": EMPTY}, SUBMIT, plan_.EMPTY_TRANSCRIPT),
        (KEEP_STALE, {"transcript": EMPTY}, SUBMIT, plan_.EMPTY_TRANSCRIPT),
        (FORCE, {"transcript": LATER}, SUBMIT, "forced"),
        (ALL, {"audio": None, "chunks": 1}, NOT_MERGED, "1 chunk, no audio.wav yet"),
        (FORCE, {"audio": None, "chunks": 1200}, NOT_MERGED, "1,200 chunks, no audio.wav yet"),
        (ALL, {"audio": None}, NO_AUDIO, plan_.NO_RECORDING),
        (FORCE, {"audio": NO_BYTES}, NO_AUDIO, "audio.wav is empty: upload it again"),
        (ALL, {"audio": None, "transcript": LATER}, DONE, "done; its recording is gone"),
        (ALL, {"audio": None, "transcript": EMPTY, "chunks": 3}, NOT_MERGED, "3 chunks, no aud"),
        (ALL, {"transcript": LATER, "claim": CLOSED}, DONE, "done"),
        # the claim has to be read
        (ALL, {"claim": CLAIM}, None, ""),
        (ALL, {"transcript": EARLIER, "claim": CLAIM}, None, ""),
        (ALL, {"transcript": EMPTY, "claim": CLAIM}, None, ""),
        (ALL, {"transcript": LATER, "claim": CLAIM}, None, ""),  # nobody has seen it yet
        (ALL, {"transcript": LATER, "claim": replace(CLOSED, size_bytes=2048)}, None, ""),  # open
        (ALL, {"transcript": SAME_TIME, "claim": SECOND_EARLIER}, None, ""),  # of another one?
        (VERIFY, {"transcript": LATER, "claim": CLOSED}, None, ""),
        (VERIFY, {}, SUBMIT, "new"),
        (FORCE, {"transcript": LATER, "claim": CLAIM}, None, ""),
    ],
)
def test_listing_tells_everything_but_what_a_claim_may_change(
    chosen: Filter, listed: dict[str, Any], action: PlannedAction | None, why: str
) -> None:
    found = from_listing(ListedSession(SESSION, **({"audio": AUDIO} | listed)), chosen)
    assert (found.action if found else None) is action
    assert why in (found.why if found else "")


ALIVE = {"expires_at": NOW + HOUR}
OVER = {"submitted_at": NOW - 9 * HOUR, "expires_at": NOW - GRACE}
LET_GO = {"submitted_at": NOW, "expires_at": NOW - GRACE}
OTHER = {"audio_etag": '"e0"'}
BAD = {"ended": "AUDIO_UNREADABLE: no audio in it"}
AWAY = {"ended": "STORAGE_UNAVAILABLE: S3 was away"}


DONE_ONCE = {"ended": "done"}
OFTEN = {"earlier": [{"request_id": f"q{n}", "ended": "INTERNAL"} for n in range(2)]}
AGAIN = {"job_id": None, "earlier": [{"request_id": "r0", "ended": "crashed"}]}
OTHER_SIZE = OTHER | {"audio_bytes": 99}
Decide = Callable[..., tuple[PlannedAction, str]]


@pytest.fixture
def decide(edge: Edge) -> Decide:
    """Plan a session whose claim and transcript were read, None if there is none."""

    def decide(
        claimed: dict[str, Any] | None,
        transcript: ObjectInfo | None = None,
        written: tuple[str | None, str | None] | None = None,
        chosen: Filter = ALL,
    ) -> tuple[PlannedAction, str]:
        held = None if claimed is None else StoredClaim(claim(**claimed), '"c1"')
        listed, found = ListedSession(SESSION, AUDIO, transcript, CLAIM), None
        if transcript is not None and written is not None:
            delivered = replace(DELIVERED, audio_etag=written[1])
            found = StoredTranscript('"t"', transcript.modified_at, delivered, written[0])
        elif transcript is not None:
            found = StoredTranscript('"t"', transcript.modified_at, None)
        planned = ClaimedSession(edge, chosen, listed, AUDIO, held, found).plan()
        assert (planned.audio, planned.held) == (AUDIO, held)
        return planned.action, planned.why

    return decide


@pytest.mark.parametrize(
    ("claimed", "transcript", "written", "action", "why"),
    [
        # an earlier job's late text says nothing about a submission whose answer was lost
        (ALIVE | OTHER_SIZE | AGAIN, LATER, OF_OTHER, FOLLOW, plan_.UNANSWERED),
        # no transcript
        (ALIVE, None, None, FOLLOW, plan_.IN_FLIGHT),
        (ALIVE | {"job_id": None}, None, None, FOLLOW, plan_.UNANSWERED),
        (ALIVE | OTHER, None, None, FOLLOW, plan_.IN_FLIGHT_FOR_ANOTHER),
        (ALIVE | {"endpoint_id": "ep2"}, None, None, REFUSED, "RUNPOD_ENDPOINT_ID=ep2"),
        ({"expires_at": NOW - GRACE + SECOND}, None, None, FOLLOW, plan_.IN_FLIGHT),
        (OVER, None, None, SUBMIT, plan_.EXPIRED),
        (OVER | OFTEN, None, None, FAILED_BEFORE, "submitted 3 times, see --force"),
        (LET_GO, None, None, SUBMIT, plan_.NOT_TAKEN),
        (LET_GO | OFTEN, None, None, SUBMIT, plan_.NOT_TAKEN),
        (ALIVE | BAD, None, None, FAILED_BEFORE, BAD["ended"]),
        (ALIVE | BAD | OTHER, None, None, SUBMIT, plan_.CHANGED_SINCE),
        (ALIVE | AWAY, None, None, SUBMIT, "once more after STORAGE_UNAVAILABLE"),
        (ALIVE | AWAY | OFTEN, None, None, FAILED_BEFORE, "submitted 3 times, see --force"),
        (ALIVE | AWAY | {"retry_at": NOW + HOUR}, None, None, FAILED_BEFORE, "again after 2026-11"),
        (ALIVE | AWAY | {"retry_at": NOW}, None, None, SUBMIT, "once more after"),
        (ALIVE | DONE_ONCE, None, None, SUBMIT, plan_.GONE),
        (None, None, None, SUBMIT, "new"),
        # the document decides, whenever it was written and whosever it is
        (ALIVE, LATER, OURS, DONE, "done"),
        (ALIVE, EARLIER, OURS, DONE, "done"),  # the same bytes, uploaded again
        (ALIVE | OTHER, LATER, OF_THIS, DONE, "done"),  # replaced before the worker read it
        (OVER, EARLIER, OF_THIS, DONE, "done"),  # of a suspended worker, long ago
        (ALIVE | OTHER_SIZE, LATER, OURS, SUBMIT, plan_.CHANGED_MEANWHILE),  # that job has ended
        (ALIVE, LATER, OF_OTHER, FOLLOW, plan_.IN_FLIGHT),  # of a late worker
        (ALIVE | OTHER, LATER, ("r1", '"e0"'), UNPROVEN, plan_.UNPROVEN_WHY),  # a copied bucket
        (ALIVE | DONE_ONCE, LATER, OF_OTHER, SUBMIT, plan_.STALE),
        # another program's: the time
        (OVER | OTHER, LATER, NOT_OURS, DONE, "done"),
        (None, LATER, NOT_OURS, DONE, "done"),
        (OVER, EARLIER, NOT_OURS, SUBMIT, plan_.EXPIRED),
        (ALIVE, EARLIER, NOT_OURS, FOLLOW, plan_.IN_FLIGHT),
        (ALIVE | BAD, EARLIER, NOT_OURS, FAILED_BEFORE, BAD["ended"]),
        # cut short
        (ALIVE | DONE_ONCE, LATER, None, SUBMIT, plan_.UNREADABLE),
        (None, LATER, None, SUBMIT, plan_.UNREADABLE),
    ],
)
def test_document_decides_and_else_the_claim(
    decide: Decide, claimed: Any, transcript: Any, written: Any, action: PlannedAction, why: str
) -> None:
    found, said = decide(claimed, transcript, written)
    assert found is action
    assert why in said


def test_filter_and_settings_change_what_a_claim_says(edge: Edge, decide: Decide) -> None:
    named, copied = Filter(sessions=(SESSION,)), (ALIVE | OTHER, LATER, OURS)
    assert decide(ALIVE | BAD, chosen=named) == (SUBMIT, "once more after AUDIO_UNREADABLE")
    assert decide(ALIVE | BAD | OFTEN, chosen=named)[0] is FAILED_BEFORE
    assert decide(ALIVE | BAD | OFTEN, chosen=FORCE) == (SUBMIT, "forced")
    assert [decide(*copied, chosen=each)[0] for each in (ALL, CHANGED)] == [UNPROVEN, SUBMIT]
    assert decide(ALIVE, LATER, NOT_OURS, VERIFY) == (UNPROVEN, plan_.FOREIGN)
    edge.settings = edge.settings.model_copy(update={"endpoint_id": None})
    assert decide(ALIVE | {"endpoint_id": "ep2"})[0] is FOLLOW


def go(edge: Edge, **chosen: Any) -> list[PlannedSession]:
    return list(plan(edge, Filter(**chosen)))


def actions(found: list[PlannedSession]) -> Counter[PlannedAction]:
    return Counter(each.action for each in found)


def test_bucket_costs_a_list_and_a_get_for_each_doubt(edge: Edge, s3: S3Server) -> None:
    for number in range(10):
        new, done, flying = (Session("u", f"{kind}-{number}") for kind in ("new", "done", "flying"))
        s3.put(new.audio_key, wav())
        s3.put(done.audio_key, wav(), NOW - HOUR)
        s3.put(done.result_key, transcript(), NOW - HOUR / 2)
        s3.put(done.claim_key, b"{}", NOW)
        s3.put(flying.audio_key, wav())
        put_claim(s3, flying)
    found = go(edge)
    assert actions(found) == {SUBMIT: 10, DONE: 10, FOLLOW: 10}
    assert [i.session.name for i in found] == sorted(i.session.name for i in found)
    methods = Counter((method, key.rpartition("/")[2]) for method, key in s3.calls)
    assert methods == {("GET", ""): 1, ("GET", "transcription.job.json"): 10}
    followed = next(each for each in found if each.action is FOLLOW)
    assert followed.held == claims.read(edge.bucket, followed.session)


def test_claim_that_is_none_is_refused_unless_forced_and_a_transcript_read_where_it_leaves_a_doubt(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.audio_key, wav())
    s3.put(SESSION.claim_key, b"{}")
    (refused,) = go(edge)
    assert refused.action is REFUSED
    assert "--force" in refused.why
    assert actions(go(edge, force=True)) == {SUBMIT: 1}
    put_claim(s3, SESSION, audio_etag='"before"')
    for request_id, action in (("r1", SUBMIT), ("by other means", DONE)):
        s3.put(SESSION.result_key, transcript(request_id=request_id), NOW + SECOND)
        assert actions(go(edge)) == {action: 1}


def test_claim_that_nobody_followed_is_closed_and_later_listings_cost_no_get(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.audio_key, wav(), NOW - HOUR)
    put_claim(s3, SESSION)
    s3.put(SESSION.result_key, transcript(), NOW + SECOND)
    s3.now = NOW + HOUR
    for puts in (0, 1, 0):
        s3.calls.clear()
        (found,) = plan(edge, ALL, closes=puts > 0)
        assert found.action is DONE
        assert [method for method, _ in s3.calls].count("PUT") == puts
    assert [key for _, key in s3.calls] == [""]
    held = claims.current(edge.bucket, SESSION)
    assert held is not None
    assert held.ended == "done"


@pytest.mark.parametrize("force", [False, True])
def test_bad_object_is_named_and_stops_nobody(edge: Edge, s3: S3Server, force: bool) -> None:
    kinds = ("archived", "restored", "newer", "huge", "barred", "copied", "of-9999", "good")
    of = {name: Session("u", name) for name in kinds}
    for name, session in of.items():
        s3.put(session.audio_key, wav())
        if name in ("archived", "restored"):
            s3.objects[session.audio_key].storage_class = "GLACIER"
            s3.objects[session.audio_key].is_restored = name == "restored"
        else:
            put_claim(s3, session)
    s3.objects[of["copied"].claim_key] = s3.objects[of["good"].claim_key]
    s3.put(of["newer"].claim_key, b'{"version": 2}')
    s3.put(of["huge"].claim_key, b" " * 65_537)
    put = s3.objects[of["of-9999"].claim_key]
    put.body = put.body.replace(b'"expires_at":"2026', b'"expires_at":"9999')
    s3.refuse = lambda _, key: (403, "AccessDenied") if key == of["barred"].claim_key else None
    said = {
        "archived": "archived/audio.wav: archived: restore it",
        "newer": "newer/transcription.job.json has version 2: update",
        "huge": "huge/transcription.job.json has 65,537 bytes",
        "barred": f"S3 answers 403 AccessDenied on GET {of['barred'].claim_key}",
    } | ({} if force else {"of-9999": "--force replaces it"})
    found = {each.session.name: each for each in go(edge, force=force)}
    assert {name for name in kinds if found[name].action is REFUSED} == set(said)
    assert {name for name in said if said[name] not in found[name].why} == set()
    assert found["restored"].action is found["copied"].action is SUBMIT
    assert found["good"].action is (SUBMIT if force else FOLLOW)


def test_session_that_another_box_finished_since_the_listing_is_done(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(SESSION.audio_key, wav(), NOW - HOUR)
    put_claim(s3, SESSION)

    def finishes(method: str, key: str) -> None:
        if key == SESSION.claim_key:
            put_claim(s3, SESSION, ended="done")
            s3.put(SESSION.result_key, transcript(), NOW + SECOND)

    s3.refuse = finishes
    assert actions(go(edge)) == {DONE: 1}


def test_limit_counts_work_alone_and_ends_the_listing(edge: Edge, s3: S3Server) -> None:
    s3.page_keys = 5
    for number in range(100):
        s3.put(Session("u1", f"s{number:03}").audio_key, wav())
    s3.put(f"{Session('u0', 's').prefix}/chunk-001.webm", b"c")
    assert actions(go(edge, limit=3)) == {NOT_MERGED: 1, SUBMIT: 3}
    assert len(s3.lists) < 12
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("in-order")]


def test_older_recordings_and_other_users_are_left_out_and_named_ones_not_there_refused(
    edge: Edge, s3: S3Server
) -> None:
    s3.put(Session("u", "old").audio_key, wav(), NOW - SECOND)
    s3.put(Session("u", "young").audio_key, wav(), NOW)
    s3.put(f"{Session('u', 'parts').prefix}/chunk-001.webm", b"c", NOW - HOUR)
    s3.put(f"{Session('u2', 'empty').prefix}/metadata.json", b"{}")
    assert {each.session.name for each in go(edge, since=NOW, user="u")} == {"young", "parts"}
    assert actions(go(edge)) == {SUBMIT: 2, NOT_MERGED: 1, NO_AUDIO: 1}
    named = (Session("u", "typo"), Session("u", "parts"), Session("u2", "empty"))
    found = go(edge, sessions=named)
    assert [each.action for each in found] == [REFUSED, NOT_MERGED, REFUSED]
    assert "check the session's name" in found[0].why

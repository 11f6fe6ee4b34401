"""What a session needs, from what the listing shows and what its claim says."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from edge_client.batch import plan as assessment
from edge_client.batch.plan import Inquiry, Wishes, from_listing
from edge_client.batch.types import Found, Item, Need
from edge_client.jobs.claim import GRACE, StoredClaim
from edge_client.jobs.transcript import Delivered
from edge_client.services.s3 import ObjectInfo
from tests.unit.edge_client.samples import NOW, SESSION, claim

WISHES = Wishes()
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def stored(key: str, at: datetime = NOW, size_bytes: int = 100, etag: str = '"e1"') -> ObjectInfo:
    return ObjectInfo(key, etag, size_bytes, at)


AUDIO = stored(SESSION.audio_key)
LATER = stored(SESSION.result_key, NOW + HOUR)
EARLIER = stored(SESSION.result_key, NOW - HOUR)
DELIVERED = Delivered(1, 1, 2.0, 0.5, "en", (), 100)
CLAIM = stored(SESSION.claim_key, NOW + 5 * SECOND)


def listed(wishes: Wishes = WISHES, **found: Any) -> tuple[Need, str] | None:
    item = from_listing(Found(SESSION, **found), wishes)
    return None if item is None else (item.need, item.why)


def test_a_recording_alone_is_submitted() -> None:
    item = from_listing(Found(SESSION, AUDIO), WISHES)
    assert item == Item(SESSION, Need.SUBMIT, "new", AUDIO)


@pytest.mark.parametrize("later_s", [0, 1, 3600])
def test_a_transcript_that_is_not_older_is_done(later_s: int) -> None:
    transcript = stored(SESSION.result_key, NOW + later_s * SECOND)
    assert listed(audio=AUDIO, transcript=transcript) == (Need.DONE, "done")


def test_a_transcript_that_is_older_is_stale() -> None:
    transcript = stored(SESSION.result_key, NOW - SECOND)
    assert listed(audio=AUDIO, transcript=transcript) == (Need.SUBMIT, assessment.STALE)


def test_stale_transcripts_can_be_left() -> None:
    found = {"audio": AUDIO, "transcript": EARLIER, "claim": CLAIM}
    assert listed(Wishes(stale=False), **found) == (Need.DONE, assessment.LEFT_STALE)
    assert listed(Wishes(stale=False), **(found | {"transcript": LATER})) == (Need.DONE, "done")


@pytest.mark.parametrize("stale", [True, False])
def test_an_empty_transcript_is_none(stale: bool) -> None:
    transcript = replace(LATER, size_bytes=0)
    expected = (Need.SUBMIT, assessment.EMPTY_TRANSCRIPT)
    assert listed(Wishes(stale=stale), audio=AUDIO, transcript=transcript) == expected


def test_chunks_without_a_recording_are_not_merged() -> None:
    assert listed(chunks=1) == (Need.NOT_MERGED, "1 chunk, no audio.wav yet")
    assert listed(chunks=1200, claim=CLAIM) == (Need.NOT_MERGED, "1,200 chunks, no audio.wav yet")


def test_nothing_to_transcribe_is_no_audio() -> None:
    empty = replace(AUDIO, size_bytes=0)
    assert listed() == (Need.NO_AUDIO, assessment.NO_RECORDING)
    assert listed(Wishes(force=True), audio=empty) == (
        Need.NO_AUDIO,
        "audio.wav is empty: upload it again",
    )


def test_a_transcript_whose_recording_was_deleted_is_done() -> None:
    assert listed(transcript=LATER, chunks=3) == (Need.DONE, "done; its recording is gone")
    assert listed(transcript=replace(LATER, size_bytes=0), chunks=3) == (
        Need.NOT_MERGED,
        "3 chunks, no audio.wav yet",
    )


def test_force_submits_what_has_a_recording() -> None:
    forced = Wishes(force=True)
    assert listed(forced, audio=AUDIO, transcript=LATER) == (Need.SUBMIT, "forced")
    assert listed(forced, audio=AUDIO, transcript=LATER, claim=CLAIM) is None
    assert listed(forced, chunks=2) == (Need.NOT_MERGED, "2 chunks, no audio.wav yet")


@pytest.mark.parametrize(
    ("transcript", "claimed_s", "is_read"),
    [
        (None, 5, True),
        (EARLIER, 5, True),
        (replace(LATER, size_bytes=0), 5, True),
        (LATER, 5, False),
        (LATER, 2, False),
        (LATER, 1, True),
        (LATER, -3600, True),
    ],
)
def test_a_claim_is_read_only_where_the_listing_cannot_tell(
    transcript: ObjectInfo | None, claimed_s: int, is_read: bool
) -> None:
    written = stored(SESSION.claim_key, NOW + claimed_s * SECOND)
    assert (listed(audio=AUDIO, transcript=transcript, claim=written) is None) == is_read


def test_only_recordings_since_are_looked_at() -> None:
    wishes = Wishes(since=NOW)
    assert not wishes.passes_over(Found(SESSION, AUDIO))
    assert wishes.passes_over(Found(SESSION, stored(SESSION.audio_key, NOW - SECOND)))
    assert not wishes.passes_over(Found(SESSION, chunks=2))
    assert not WISHES.passes_over(Found(SESSION, AUDIO))


ALIVE = {"expires_at": NOW + HOUR}
OVER = {"submitted_at": NOW - 9 * HOUR, "expires_at": NOW - GRACE}
LET_GO = {"submitted_at": NOW, "expires_at": NOW - GRACE}
OTHER = {"audio_etag": '"e0"'}
BAD = {"ended": "AUDIO_UNREADABLE: no audio in it"}
AWAY = {"ended": "STORAGE_UNAVAILABLE: S3 was away"}


def asked(
    claimed: dict[str, Any] | None,
    transcript: ObjectInfo | None = None,
    *,
    delivered: bool | None = None,
    read: str | None = None,
    wishes: Wishes = WISHES,
    endpoint_id: str | None = "ep1",
) -> Item:
    """Ask about a session; ``delivered`` is None where its transcript must not be read."""

    def find_of_job(_: object) -> Delivered | None:
        assert delivered is not None, "nobody has to read the transcript"
        return replace(DELIVERED, audio_etag=read) if delivered else None

    held = None if claimed is None else StoredClaim(claim(**claimed), '"c1"')
    found = Found(SESSION, AUDIO, transcript, CLAIM)
    item = Inquiry(found, AUDIO, held, wishes, endpoint_id, NOW, find_of_job).answer()
    assert (item.audio, item.held) == (AUDIO, held)
    return item


@pytest.mark.parametrize(
    ("claimed", "need", "why"),
    [
        (ALIVE, Need.FOLLOW, assessment.OUT),
        (ALIVE | {"job_id": None}, Need.FOLLOW, assessment.UNANSWERED),
        (ALIVE | OTHER, Need.FOLLOW, assessment.OUT_FOR_ANOTHER),
        (ALIVE | {"endpoint_id": "ep2"}, Need.REFUSED, "RUNPOD_ENDPOINT_ID=ep2"),
        ({"expires_at": NOW - GRACE + SECOND}, Need.FOLLOW, assessment.OUT),
        (OVER, Need.SUBMIT, assessment.TIME_OVER),
        (OVER | {"endpoint_id": "ep2"}, Need.SUBMIT, assessment.TIME_OVER),
        (LET_GO, Need.SUBMIT, assessment.NOT_TAKEN),
        (ALIVE | BAD, Need.FAILED_BEFORE, BAD["ended"]),
        (OVER | BAD, Need.FAILED_BEFORE, BAD["ended"]),
        (ALIVE | BAD | OTHER, Need.SUBMIT, assessment.CHANGED_SINCE),
        (ALIVE | AWAY, Need.SUBMIT, "once more after STORAGE_UNAVAILABLE"),
        (None, Need.SUBMIT, "new"),
    ],
)
def test_without_a_transcript_the_claim_decides(
    claimed: dict[str, Any] | None, need: Need, why: str
) -> None:
    item = asked(claimed)
    assert item.need is need
    assert why in item.why


@pytest.mark.parametrize(
    ("claimed", "transcript", "delivered", "need", "why"),
    [
        # newer by the listing
        (ALIVE, LATER, None, Need.DONE, "done"),
        (ALIVE | OTHER, LATER, True, Need.SUBMIT, assessment.CHANGED_MEANWHILE),
        (OVER | OTHER, LATER, True, Need.SUBMIT, assessment.CHANGED_MEANWHILE),
        (OVER | OTHER, LATER, False, Need.DONE, "done"),  # somebody else's, newer
        (None, LATER, None, Need.DONE, "done"),
        # older by the listing
        (ALIVE, EARLIER, True, Need.DONE, "done"),  # the same bytes, uploaded again
        (OVER, EARLIER, True, Need.DONE, "done"),
        (OVER, EARLIER, False, Need.SUBMIT, assessment.STALE),
        (ALIVE | OTHER, EARLIER, True, Need.SUBMIT, assessment.STALE),  # that job has ended
        (ALIVE | OTHER, EARLIER, False, Need.FOLLOW, assessment.OUT_FOR_ANOTHER),
        (OVER | OTHER, EARLIER, None, Need.SUBMIT, assessment.STALE),
        (ALIVE, EARLIER, False, Need.FOLLOW, assessment.OUT),
        (ALIVE | BAD, EARLIER, False, Need.FAILED_BEFORE, BAD["ended"]),
        (ALIVE | BAD | OTHER, EARLIER, None, Need.SUBMIT, assessment.CHANGED_SINCE),
        (None, EARLIER, None, Need.SUBMIT, assessment.STALE),
    ],
)
def test_a_transcript_is_judged_by_its_job(
    claimed: dict[str, Any] | None,
    transcript: ObjectInfo,
    delivered: bool | None,
    need: Need,
    why: str,
) -> None:
    item = asked(claimed, transcript, delivered=delivered)
    assert (item.need, item.why) == (need, why)


@pytest.mark.parametrize(
    ("claimed", "read", "need", "why"),
    [
        (OTHER, '"e1"', Need.DONE, "done"),  # replaced before the worker read it
        (OTHER, '"e0"', Need.SUBMIT, assessment.CHANGED_MEANWHILE),
    ],
)
def test_what_the_worker_read_tells_whether_a_replaced_recording_is_done(
    claimed: dict[str, Any], read: str, need: Need, why: str
) -> None:
    item = asked(ALIVE | claimed, LATER, delivered=True, read=read)
    assert (item.need, item.why) == (need, why)


def test_what_failed_for_good_runs_where_the_user_says_so() -> None:
    item = asked(ALIVE | BAD, wishes=Wishes(retry=frozenset([SESSION.prefix])))
    assert (item.need, item.why) == (Need.SUBMIT, "once more after AUDIO_UNREADABLE")
    assert asked(ALIVE | BAD, wishes=Wishes(force=True)).need is Need.SUBMIT


def test_a_box_without_an_endpoint_takes_every_job_for_one_that_is_out() -> None:
    assert asked(ALIVE | {"endpoint_id": "ep2"}, endpoint_id=None).need is Need.FOLLOW


def test_what_is_no_claim_is_refused_unless_forced() -> None:
    found, held = Found(SESSION, AUDIO, None, CLAIM), StoredClaim(None, '"c1"')
    inquiry = Inquiry(found, AUDIO, held, WISHES, "ep1", NOW, lambda _: None)
    assert (inquiry.answer().need, inquiry.answer().held) == (Need.REFUSED, held)
    assert "--force" in inquiry.answer().why
    assert replace(inquiry, wishes=Wishes(force=True)).answer().need is Need.SUBMIT

"""Whether a session is done: the document's ETag, then its submission, and times last."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from edge_client.jobs.transcript import Delivered, Match, StoredTranscript, match
from edge_client.services.s3 import ObjectInfo
from tests.unit.edge_client.samples import NOW, SESSION, claim

AUDIO = ObjectInfo(SESSION.audio_key, '"e1"', 100, NOW)
DELIVERED = Delivered(1, 1, 2.0, 0.5, "en", (), 100)
NEW, OLD = NOW + timedelta(seconds=1), NOW - timedelta(seconds=1)


def stored(audio_etag: str | None, request_id: str | None, at: Any = OLD) -> StoredTranscript:
    return StoredTranscript('"t"', at, replace(DELIVERED, audio_etag=audio_etag), request_id)


@pytest.mark.parametrize(
    ("transcript", "claimed", "found"),
    [
        # its ETag first, whoever's it is and whenever it came
        (stored('"e1"', "r1"), {}, Match.CURRENT),
        (stored('"e1"', "r1"), None, Match.CURRENT),
        (stored('W/"e1"', "of a suspended worker"), {}, Match.CURRENT),
        (stored("e1", None), {"audio_etag": '"e0"'}, Match.CURRENT),
        # of an earlier recording, though it came late
        (stored('"e0"', "r0", NEW), {}, Match.OUTDATED),
        (stored('"e0"', "r1", NEW), {"audio_etag": '"e0"', "audio_bytes": 99}, Match.OUTDATED),
        (stored('"e0"', "r0", NEW), {"audio_etag": '"e2"'}, Match.OUTDATED),
        # in a copied bucket
        (stored('"e0"', "r1"), {"audio_etag": '"e0"'}, Match.UNPROVEN),
        (stored('"e0"', "r1", NEW), None, Match.UNPROVEN),
        (stored('"e0"', "r1"), None, Match.OUTDATED),
        # it says nothing of its recording: the claim of its submission does
        (stored(None, "r1"), {}, Match.CURRENT),
        (stored(None, "r1", NEW), {"audio_etag": '"e0"', "audio_bytes": 99}, Match.OUTDATED),
        (stored(None, "r1"), {"audio_etag": '"e0"'}, Match.UNPROVEN),
        (stored(None, "r0"), {"earlier": [{"request_id": "r0", "ended": "x"}]}, Match.CURRENT),
        # another program's
        (stored(None, None, NEW), {}, Match.REPLACED),
        (stored(None, "other", NOW), {}, Match.REPLACED),
        (stored(None, None), None, Match.OUTDATED),
        (None, {}, Match.ABSENT),
        (StoredTranscript('"t"', NEW, None), {}, Match.ABSENT),
    ],
)
def test_document_decides_before_its_submission_and_both_before_the_time(
    transcript: StoredTranscript | None, claimed: dict[str, Any] | None, found: Match
) -> None:
    held = None if claimed is None else claim(**claimed)
    assert match(AUDIO, held, transcript) is found
    assert found.is_done is (found in (Match.CURRENT, Match.REPLACED))


def test_any_transcript_will_do_when_the_recording_is_gone() -> None:
    assert match(None, claim(), stored('"e0"', None)) is Match.CURRENT
    assert match(None, None, None) is Match.ABSENT

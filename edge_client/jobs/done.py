"""Whether a session is done: the one place that decides it. Pure.

Takes the recording as it is, the session's claim and its transcript; returns a `Match`. What the
document says of its recording goes first, then which submission it is of; times decide only about
documents that say neither.
"""

from __future__ import annotations

from enum import StrEnum

from edge_client.jobs.claim import Claim
from edge_client.jobs.transcript import StoredTranscript
from edge_client.services.s3 import ObjectInfo


class Match(StrEnum):
    """What a transcript is to the recording beside it.

    `UNPROVEN` is of a recording of the same size and another ETag, as in a copied bucket: nobody
    pays for another one unasked. `REPLACED` is another program's, newer than the recording.
    """

    CURRENT = "current"
    REPLACED = "replaced"
    UNPROVEN = "unproven"
    OUTDATED = "outdated"
    ABSENT = "absent"

    @property
    def is_done(self) -> bool:
        """Whether the recording has its transcript."""
        return self in (Match.CURRENT, Match.REPLACED)


UNPROVEN_WHY = (
    "its transcript is of a recording of this size with another ETag, as in a copied bucket"
)


def match(audio: ObjectInfo | None, claim: Claim | None, stored: StoredTranscript | None) -> Match:
    """Tell what a session's transcript is to its recording; any will do if that is gone."""
    if stored is None or stored.delivered is None:
        return Match.ABSENT
    if audio is None:
        return Match.CURRENT
    etag = stored.delivered.audio_etag
    if etag is None and is_ours(claim, stored):
        etag = claim.audio_etag if claim is not None else None
    is_newer = stored.modified_at >= audio.modified_at
    if etag is None:
        return Match.REPLACED if is_newer else Match.OUTDATED
    if is_same(etag, audio.etag):
        return Match.CURRENT
    if claim is None:
        return Match.UNPROVEN if is_newer else Match.OUTDATED
    is_copy = is_same(etag, claim.audio_etag) and claim.audio_bytes == audio.size_bytes
    return Match.UNPROVEN if is_copy else Match.OUTDATED


def is_ours(claim: Claim | None, stored: StoredTranscript | None) -> bool:
    """Whether the claim's submission, or one before it, wrote the transcript."""
    return claim is not None and stored is not None and stored.request_id in claim.request_ids


def is_same(etag: str, other: str) -> bool:
    """Whether two ETags name one version: a proxy may make one weak (RFC 9110, 8.8.3)."""
    return etag.removeprefix("W/").strip('"') == other.removeprefix("W/").strip('"')

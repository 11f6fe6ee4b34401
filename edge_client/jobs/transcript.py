"""``transcription.json`` as the edge reads it, and whether it is of the recording beside it.

Takes the object's bytes; returns a `Document`; raises `TranscriptInvalid` or `ObjectRefused`.
`match` alone decides whether a session is done: what the document says of its recording goes first,
then which submission it is of; times decide only about documents that say neither.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from bucketscribe_render import document
from bucketscribe_render.document import Document
from edge_client.errors import ObjectRefused, TranscriptInvalid
from edge_client.jobs.claim import Claim
from edge_client.services.s3 import Bucket, ObjectInfo
from edge_client.session import Session


@dataclass(frozen=True)
class Delivered:
    """What a finished session's transcript amounts to, in the contract's words (`JobSummary`).

    ``audio_etag`` is of the recording that its worker read; None if it did not say.
    """

    segments_count: int
    speakers_count: int
    duration_seconds: float
    processing_time_seconds: float | None
    language: str | None
    warnings: tuple[str, ...]
    bytes: int
    audio_etag: str | None = None

    @classmethod
    def of(cls, doc: Document, size_bytes: int) -> Self:
        """Sum up a document."""
        return cls(
            segments_count=len(doc.lines),
            speakers_count=len(doc.speakers),
            duration_seconds=doc.duration_s,
            processing_time_seconds=doc.processing_s,
            language=doc.language,
            warnings=doc.warnings,
            bytes=size_bytes,
            audio_etag=doc.audio_etag,
        )


def parse(body: bytes, key: str = "the transcript") -> Document:
    """Read a transcript.

    Raises:
        TranscriptInvalid: It is not JSON, or no transcript.
        ObjectRefused: A newer worker wrote it, in a form that this client may misread.
    """
    try:
        return document.parse(body, key)
    except document.TooNew as exc:
        raise ObjectRefused(str(exc)) from exc
    except document.Unreadable as exc:
        raise TranscriptInvalid(str(exc)) from exc


@dataclass(frozen=True)
class StoredTranscript:
    """A session's transcript as it is in S3, or as its worker says that it is.

    ``delivered`` is None if the object is no transcript.
    """

    etag: str
    modified_at: datetime
    delivered: Delivered | None
    request_id: str | None = None
    sha256: str = ""


def read(bucket: Bucket, session: Session) -> StoredTranscript | None:
    """Read a session's transcript, whatever it is; None if there is none."""
    found = bucket.read(session.result_key)
    return None if found is None else as_stored(*found)


def as_stored(body: bytes, info: ObjectInfo) -> StoredTranscript:
    """Describe what was read in a transcript's place."""
    sha256 = hashlib.sha256(body).hexdigest()
    try:
        doc = parse(body, info.key)
    except TranscriptInvalid:
        return StoredTranscript(info.etag, info.modified_at, None, None, sha256)
    delivered = Delivered.of(doc, info.size_bytes)
    return StoredTranscript(info.etag, info.modified_at, delivered, doc.request_id, sha256)


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

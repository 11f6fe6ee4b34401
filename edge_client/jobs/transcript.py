"""``transcription.json`` as the edge reads it.

Takes the object's bytes; returns a `Document`; raises `TranscriptInvalid`. Only what is used here
is looked at: a field that a newer worker adds must not make its work look undone, and plain
WhisperX JSON counts, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from datetime import datetime

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from bucketscribe_contract import JobSummary
from edge_client.errors import TranscriptInvalid
from edge_client.jobs.claim import Version
from edge_client.services.s3 import Bucket
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


_WIRE = ConfigDict(frozen=True, allow_inf_nan=False, populate_by_name=True)


class Word(BaseModel):
    """A word; all but its text may be unknown."""

    model_config = _WIRE

    text: str = Field(alias="word")
    start_s: float | None = Field(None, ge=0, alias="start")
    end_s: float | None = Field(None, ge=0, alias="end")
    speaker: str | None = None
    score: float | None = None

    @property
    def times(self) -> tuple[float, float] | None:
        """Start and end, in this order; None if either is unknown."""
        if self.start_s is None or self.end_s is None:
            return None
        return self.start_s, max(self.start_s, self.end_s)


class Line(BaseModel):
    """A segment: times in seconds from the start of the recording."""

    model_config = _WIRE

    start_s: float = Field(ge=0, alias="start")
    end_s: float = Field(ge=0, alias="end")
    text: str
    speaker: str | None = None
    words: tuple[Word, ...] = ()

    @field_validator("words", mode="wrap")
    @classmethod
    def _words_if_any(cls, words: object, read: ValidatorFunctionWrapHandler) -> tuple[Word, ...]:
        """Take words that cannot be read for none: the text is there without them."""
        try:
            return tuple(read(words))
        except ValidationError:
            return ()


class Document(BaseModel):
    """A transcript: what the edge needs of it; the rest is other readers' business."""

    model_config = _WIRE

    schema_version: Version = 1
    lines: tuple[Line, ...] = Field(alias="segments")
    named_speakers: tuple[str, ...] | None = Field(None, alias="speakers")
    language: str | None = None
    recording_s: float | None = Field(None, alias="duration_seconds")
    processing_s: float | None = Field(None, alias="processing_time_seconds")
    warnings: tuple[str, ...] = ()
    request_id: str | None = None
    audio_etag: str | None = None

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers, in order; those of the lines where nothing names them."""
        heard = sorted({line.speaker for line in self.lines if line.speaker})
        return tuple(heard) if self.named_speakers is None else self.named_speakers

    @property
    def duration_s(self) -> float:
        """The recording's length; the end of the last line where nothing says it."""
        last_s = max((line.end_s for line in self.lines), default=0.0)
        return last_s if self.recording_s is None else self.recording_s

    def delivered(self, size_bytes: int) -> Delivered:
        """Sum it up."""
        return Delivered(
            segments_count=len(self.lines),
            speakers_count=len(self.speakers),
            duration_seconds=self.duration_s,
            processing_time_seconds=self.processing_s,
            language=self.language,
            warnings=self.warnings,
            bytes=size_bytes,
            audio_etag=self.audio_etag,
        )


def of_summary(summary: JobSummary) -> Delivered:
    """Sum up a transcript from what its worker said about it."""
    names = {field.name for field in fields(Delivered)}
    return Delivered(**summary.model_dump(include=names), bytes=summary.result.bytes)


def parse(body: bytes, key: str = "the transcript") -> Document:
    """Read a transcript.

    Raises:
        TranscriptInvalid: It is not JSON, or no transcript.
        ObjectRefused: A newer worker wrote it, in a form that this client may misread.
    """
    try:
        return Document.model_validate_json(body, context=key)
    except ValidationError as exc:
        where = ".".join(str(part) for part in exc.errors(include_input=False)[0]["loc"])
        text = f"cannot be read (see {where})" if where else "cannot be read: it is not JSON"
        raise TranscriptInvalid(f"the transcript {text}") from None  # the cause would show it


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
    if found is None:
        return None
    body, info = found
    sha256 = hashlib.sha256(body).hexdigest()
    try:
        doc = parse(body, session.result_key)
    except TranscriptInvalid:
        return StoredTranscript(info.etag, info.modified_at, None, None, sha256)
    delivered = doc.delivered(info.size_bytes)
    return StoredTranscript(info.etag, info.modified_at, delivered, doc.request_id, sha256)

"""``transcription.json`` as the edge reads it, and as txt, srt or vtt.

Takes the object's bytes; returns a `Document`; raises `TranscriptInvalid`. Only what is used here
is looked at: a field that a newer worker adds must not make its work look undone, and plain
WhisperX JSON counts, too. Sources: W3C WebVTT; SubRip as players read it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from html import escape

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from bucketscribe_contract import JobSummary
from edge_client.errors import TranscriptInvalid
from edge_client.jobs.claim import Claim, Version
from edge_client.services.s3 import Bucket, ObjectInfo
from edge_client.session import Session


@dataclass(frozen=True)
class Delivered:
    """What a finished session's transcript amounts to, in the contract's words (`JobSummary`).

    Attributes:
        audio_etag: Of the recording that its worker read; None if it did not say.
    """

    segments_count: int
    speakers_count: int
    duration_seconds: float
    processing_time_seconds: float | None
    language: str | None
    warnings: tuple[str, ...]
    bytes: int
    audio_etag: str | None = None

    def is_of(self, audio: ObjectInfo, claim: Claim) -> bool:
        """Whether the recording is still the one that was transcribed.

        The claim of that submission tells what was there before the job; what the job then read,
        only its worker knows.
        """
        return _opaque(self.audio_etag or claim.audio_etag) == _opaque(audio.etag)


def _opaque(etag: str) -> str:
    """Return what an ETag is about: a proxy may make one weak (RFC 9110, 8.8.3)."""
    return etag.removeprefix("W/").strip('"')


_WIRE = ConfigDict(frozen=True, allow_inf_nan=False, populate_by_name=True)


class Line(BaseModel):
    """A segment: times in seconds from the start of the recording."""

    model_config = _WIRE

    start_s: float = Field(ge=0, alias="start")
    end_s: float = Field(ge=0, alias="end")
    text: str
    speaker: str | None = None


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
        if self.named_speakers is not None:
            return self.named_speakers
        return tuple(sorted({line.speaker for line in self.lines if line.speaker}))

    @property
    def duration_s(self) -> float:
        """The recording's length; the end of the last line where nothing says it."""
        if self.recording_s is not None:
            return self.recording_s
        return max((line.end_s for line in self.lines), default=0.0)

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
        raise TranscriptInvalid(
            "the transcript cannot be read" + (f" (see {where})" if where else ": it is not JSON")
        ) from None  # the cause would show its text


def find_done(
    bucket: Bucket, session: Session, audio: ObjectInfo | None, claim: Claim | None
) -> Delivered | None:
    """Return the summary of a valid transcript of the audio as it is now; None: not done.

    Any valid transcript will do if the audio is gone. If the claim's job wrote it, the audio's
    ETag decides (`Delivered.is_of`); otherwise which of the two objects is newer.
    """
    found = _read(bucket, session)
    if found is None:
        return None
    doc, info = found
    if audio is not None and not _is_of(doc, info, audio, claim):
        return None
    return doc.delivered(info.size_bytes)


def _is_of(doc: Document, info: ObjectInfo, audio: ObjectInfo, claim: Claim | None) -> bool:
    if claim is not None and doc.request_id in claim.request_ids:
        return doc.delivered(info.size_bytes).is_of(audio, claim)
    return info.modified_at >= audio.modified_at


def find_of_job(bucket: Bucket, session: Session, claim: Claim) -> Delivered | None:
    """Return the transcript that the claim's submission, or one before it, wrote."""
    found = _read(bucket, session)
    if found is None or found[0].request_id not in claim.request_ids:
        return None
    return found[0].delivered(found[1].size_bytes)


def _read(bucket: Bucket, session: Session) -> tuple[Document, ObjectInfo] | None:
    found = bucket.read(session.result_key)
    if found is None:
        return None
    try:
        return parse(found[0], session.result_key), found[1]
    except TranscriptInvalid:
        return None


def as_txt(doc: Document) -> str:
    """One line a segment: start and end, speaker, text."""
    width = max((len(line.speaker or "") for line in doc.lines), default=0)
    return "".join(
        f"{_stamp(line.start_s, '.')[:-1]} - {_stamp(line.end_s, '.')[:-1]}  "
        + (f"{line.speaker or '':{width}}  " if width else "")
        + f"{_flat(line.text)}\n"
        for line in doc.lines
    )


def as_srt(doc: Document) -> str:
    """SubRip, the speaker in brackets before the text."""
    return "\n".join(
        f"{number}\n{_span(line, ',')}\n"
        + (f"[{line.speaker}] " if line.speaker else "")
        + f"{_flat(line.text)}\n"
        for number, line in enumerate(doc.lines, start=1)
    )


def as_vtt(doc: Document) -> str:
    """WebVTT, the speaker as a voice span."""
    return "WEBVTT\n" + "".join(
        f"\n{_span(line, '.')}\n"
        + (f"<v {escape(line.speaker, quote=False)}>" if line.speaker else "")
        + f"{escape(_flat(line.text), quote=False)}\n"
        for line in doc.lines
    )


FORMATS: dict[str, Callable[[Document], str]] = {"srt": as_srt, "vtt": as_vtt, "txt": as_txt}


def _span(line: Line, point: str) -> str:
    return f"{_stamp(line.start_s, point)} --> {_stamp(line.end_s, point)}"


def _stamp(seconds: float, point: str) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"


def _flat(text: str) -> str:
    """Return text on one line: a blank line inside a cue would end it."""
    return " ".join(text.split())

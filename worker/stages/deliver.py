"""Deliver: compose the document, store it with the presigned PUT, or return it in the output.

Takes what the stages found; returns the document, its encoding, the job's summary and, if S3
refuses the document, an output that carries it. Raises `WorkerError`: ``STORAGE_UNAVAILABLE`` when
S3 does not have it after `ATTEMPTS` tries.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests
import stamina

from bucketscribe_contract import (
    FailureCode,
    JobInput,
    JobSummary,
    PresignedUrl,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    TranscriptForm,
    UploadFailed,
    WarningCode,
)
from worker.errors import WorkerError
from worker.http import error_text, exchange, stored_md5
from worker.types import Alignment, Diarization, Transcription

if TYPE_CHECKING:
    from worker.models.load import Models


MAX_OUTPUT_BYTES = 10_000_000
"""What RunPod takes as a job's output (docs: 10 MB)."""
ATTEMPTS = 4
CONTENT_TYPE = "application/json"
_FALLBACK = "the transcript is in the job's output"


@dataclass(frozen=True)
class EncodedTranscript:
    """``transcription.json`` as bytes, UTF-8."""

    body: bytes

    @classmethod
    def of(cls, transcript: Transcript) -> EncodedTranscript:
        """Encode a transcript; text that is no valid unicode is replaced, not refused."""
        data = transcript.model_dump(mode="python")
        return cls(encode(data))

    @property
    def stored(self) -> StoredResult:
        """The object's size and checksum."""
        return StoredResult(bytes=len(self.body), sha256=hashlib.sha256(self.body).hexdigest())

    @property
    def gzip_base64(self) -> str:
        """The document in a form that fits into a job's output."""
        return base64.b64encode(gzip.compress(self.body, mtime=0)).decode("ascii")


def encode(output: dict[str, Any]) -> bytes:
    """Return strict JSON in UTF-8: no NaN, no infinity, no lone surrogate.

    Raises:
        ValueError: A number is not finite.
        TypeError: A value is no JSON.
    """
    text = json.dumps(output, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")


def checked_output(output: dict[str, Any]) -> dict[str, Any]:
    """Return the output as the queue will see it.

    runpod 1.12.0 never posts an output that it cannot encode, and the job hangs until its timeout.

    Raises:
        ValueError: It is not strict JSON, or larger than `MAX_OUTPUT_BYTES`.
    """
    body = encode(output)
    if len(body) > MAX_OUTPUT_BYTES:
        raise ValueError(f"an output of {len(body)} bytes exceeds RunPod's {MAX_OUTPUT_BYTES}")
    checked: dict[str, Any] = json.loads(body)
    return checked


class _Transient(WorkerError):
    """Another try may succeed."""


def deliver(transcript: EncodedTranscript, result_url: PresignedUrl) -> None:
    """PUT the document; a 200 counts only with the MD5 of what was sent, where the ETag is one.

    Args:
        transcript: What is stored, byte for byte.
        result_url: Signed with the content type ``application/json``.
    """
    for attempt in stamina.retry_context(on=_Transient, attempts=ATTEMPTS, timeout=None):
        with attempt:
            _put(transcript.body, result_url)


def _put(body: bytes, url: PresignedUrl) -> None:
    try:
        with exchange(
            "PUT", url, Stage.DELIVER, data=body, headers={"Content-Type": CONTENT_TYPE}
        ) as response:
            status = response.status_code
            if status in (requests.codes.ok, requests.codes.created, requests.codes.no_content):
                _compare(body, response)
                return
            code, message = error_text(response)
    except WorkerError as exc:
        raise _Transient(exc.code, f"{exc}; {_FALLBACK}", exc.stage) from exc
    said = f"S3 answered {status} {code} {message}".strip()
    is_transient = (
        status >= requests.codes.server_error or status == requests.codes.too_many_requests
    )
    kind = _Transient if is_transient else WorkerError
    raise kind(
        FailureCode.STORAGE_UNAVAILABLE,
        f"{said}; {_FALLBACK}",
        Stage.DELIVER,
    )


def _compare(body: bytes, response: requests.Response) -> None:
    stored = stored_md5(response)
    if stored is None or stored == hashlib.md5(body, usedforsecurity=False).hexdigest():
        return
    message = "S3 stored other bytes than were sent"
    raise WorkerError(FailureCode.STORAGE_UNAVAILABLE, message, Stage.DELIVER)


@dataclass(frozen=True)
class Findings:
    """What the stages of a job gave, the warnings of the job itself, and what it was done on."""

    transcription: Transcription
    alignment: Alignment
    diarization: Diarization
    warnings: tuple[str, ...]
    audio_etag: str | None = None


def compose(
    job: JobInput,
    models: Models,
    findings: Findings,
    segments: tuple[Segment, ...],
    duration_s: float,
    elapsed_s: float,
) -> Transcript:
    """Return the document.

    Args:
        job: What was asked.
        models: What it was done with.
        findings: What the stages gave.
        segments: Attributed to speakers.
        duration_s: Of the audio that was transcribed.
        elapsed_s: Since the job was taken.
    """
    speakers = {s.speaker for s in segments} | {w.speaker for s in segments for w in s.words}
    warnings: tuple[str, ...] = () if segments else (WarningCode.NO_SPEECH,)
    for found in (findings.transcription, findings.alignment, findings.diarization):
        warnings += found.warnings
    language = findings.transcription.language
    return Transcript(
        segments=segments,
        speakers=tuple(sorted(speaker for speaker in speakers if speaker)),
        language=language,
        language_probability=findings.transcription.language_probability,
        duration_seconds=round(duration_s, 3),
        processing_time_seconds=elapsed_s,
        models=_model_names(job, models, language),
        warnings=warnings + findings.warnings,
        request_id=job.request_id,
        audio_etag=findings.audio_etag,
    )


def _model_names(job: JobInput, models: Models, language: str | None) -> dict[str, str]:
    profile = models.folder.profile
    names = {Stage.SPEECH: profile.vad.name, Stage.TRANSCRIBE: models.folder.whisper_name}
    if language in profile.align:
        names[Stage.ALIGN] = profile.align[language].name
    if job.diarize:
        names[Stage.DIARIZE] = profile.diarization.name
    return {stage.value: name for stage, name in names.items()}


def summarize(
    document: Transcript, stored: StoredResult, timings: Mapping[Stage, float], elapsed_s: float
) -> JobSummary:
    """Return the job's output when its transcript is in S3.

    Args:
        document: The transcript.
        stored: What S3 has of it.
        timings: Seconds by stage.
        elapsed_s: Of the whole job, so far.
    """
    return JobSummary(
        segments_count=len(document.segments),
        speakers_count=len(document.speakers),
        duration_seconds=document.duration_seconds,
        processing_time_seconds=elapsed_s,
        language=document.language,
        warnings=document.warnings,
        result=stored,
        timings=dict(timings),
        request_id=document.request_id,
        audio_etag=document.audio_etag,
    )


def inline_fallback(
    document: Transcript, error: Exception, max_bytes: int = MAX_OUTPUT_BYTES
) -> dict[str, Any]:
    """Return the output that carries the transcript, in the largest form that RunPod takes.

    Args:
        document: What could not be stored.
        error: Why not; anything but a `WorkerError` is named by its type alone.
        max_bytes: Of the encoded output.

    Raises:
        WorkerError: ``STORAGE_UNAVAILABLE`` when not even the segments' text fits.
    """
    if not isinstance(error, WorkerError):
        said = f"{type(error).__name__} while the transcript was stored"
        error = WorkerError(FailureCode.INTERNAL, said, Stage.DELIVER)
    for form, reduced in _forms(document):
        encoded = EncodedTranscript.of(reduced)
        output = UploadFailed(
            failure=error.to_failure(),
            form=form,
            transcript_gzip_base64=encoded.gzip_base64,
            result=encoded.stored,
            request_id=document.request_id,
        ).model_dump(mode="json", exclude_none=True)
        if len(encode(output)) <= max_bytes:
            return output
    message = f"{error}, and the transcript is too large for the job's output; submit again"
    raise WorkerError(FailureCode.STORAGE_UNAVAILABLE, message, Stage.DELIVER)


def _forms(document: Transcript) -> Iterator[tuple[TranscriptForm, Transcript]]:
    """Give the document's forms, largest first."""
    yield TranscriptForm.COMPLETE, document
    yield TranscriptForm.WITHOUT_SCORES, _with_words(document, score=None)
    bare = tuple(s.model_copy(update={"words": ()}) for s in document.segments)
    yield TranscriptForm.WITHOUT_WORDS, document.model_copy(update={"segments": bare})


def _with_words(document: Transcript, **changes: Any) -> Transcript:
    segments = tuple(
        s.model_copy(update={"words": tuple(w.model_copy(update=changes) for w in s.words)})
        for s in document.segments
    )
    return document.model_copy(update={"segments": segments})

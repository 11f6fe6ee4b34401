"""Deliver: store the document with the presigned PUT, or return it in the output.

Takes the document; returns its encoding, the job's summary and, if S3 refuses the document, an
output that carries it. Raises `WorkerError`: ``STORAGE_UNAVAILABLE`` when
S3 does not have it after `ATTEMPTS` tries, ``RESULT_EXISTS`` when the signed condition forbids it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

import stamina
from urllib3 import HTTPResponse

from bucketscribe_contract import (
    FailureCode,
    JobSummary,
    PresignedUrl,
    ResultHeader,
    Segment,
    Stage,
    StoredResult,
    Transcript,
    TranscriptForm,
    UploadFailed,
)
from worker.cancel import CancelToken, Deadline
from worker.errors import JobCancelled, WorkerError
from worker.http import describe_error, exchange, is_passing, stored_md5
from worker.urls import UrlPolicy

MAX_OUTPUT_BYTES = 10_000_000
"""What RunPod takes as a job's output (docs: 10 MB)."""
ATTEMPTS = 4
TOTAL_S = 600.0
"""Longest time to store a transcript, all attempts together."""
_STORED = (HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT)
_MAX_PAUSE_S = 0.9  # with the grace, a cancelled job ends within 2 s
_GRACE_S = 1.0  # a transcript that is nearly stored is stored, though its job is cancelled
_ON_THE_WAY = ("BadDigest", "IncompleteBody", "RequestTimeout")  # S3's codes with 400
_FALLBACK = "the transcript is in the job's output"


def encode(output: dict[str, Any]) -> bytes:
    """Return strict JSON in UTF-8: no NaN, no infinity; text that is no valid unicode is replaced.

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


def deliver(
    body: bytes,
    result_url: PresignedUrl,
    headers: Mapping[ResultHeader, str],
    policy: UrlPolicy,
    cancel: CancelToken,
) -> None:
    """PUT the document; a 200 counts only with the MD5 of what was sent, where the ETag is one.

    Args:
        body: What is stored: the transcript, encoded.
        result_url: Presigned PUT.
        headers: What it was signed with.
        policy: Judges where it goes.
        cancel: Ends it.
    """
    deadline = Deadline(TOTAL_S, cancel, Stage.DELIVER, _GRACE_S)
    for attempt in stamina.retry_context(
        on=_Transient, attempts=ATTEMPTS, timeout=TOTAL_S, wait_max=_MAX_PAUSE_S
    ):
        with attempt:
            exchanged = exchange("PUT", result_url, policy, deadline, body, headers)
            _put(body, exchanged)


def _put(body: bytes, exchanged: AbstractContextManager[HTTPResponse]) -> None:
    try:
        with exchanged as response:
            if response.status in _STORED:
                _compare(body, response)
                return
            said = describe_error(response)
    except JobCancelled:
        raise
    except WorkerError as exc:
        kind = _Transient if exc.code is FailureCode.STORAGE_UNAVAILABLE else WorkerError
        raise kind(exc.code, f"{exc}; {_FALLBACK}", exc.stage) from exc
    if response.status == HTTPStatus.PRECONDITION_FAILED:
        if stored_md5(response) == _md5(body):  # MinIO's 412 has the ETag: an earlier try of ours
            return
        raise WorkerError(FailureCode.RESULT_EXISTS, f"{said}; {_FALLBACK}", Stage.DELIVER)
    is_worth_a_try = is_passing(response) or any(code in said for code in _ON_THE_WAY)
    kind = _Transient if is_worth_a_try else WorkerError
    raise kind(FailureCode.STORAGE_UNAVAILABLE, f"{said}; {_FALLBACK}", Stage.DELIVER)


def _compare(body: bytes, response: HTTPResponse) -> None:
    stored = stored_md5(response)
    if stored not in (None, _md5(body)):
        message = "S3 stored other bytes than were sent"
        raise WorkerError(FailureCode.STORAGE_UNAVAILABLE, message, Stage.DELIVER)


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()


def encode_transcript(document: Transcript) -> bytes:
    """Return ``transcription.json``.

    Made a segment at a time: as one dictionary, a day's words take another hundred megabytes.
    """
    frame = encode(document.model_copy(update={"segments": ()}).model_dump(mode="python"))
    before, after = frame.split(b'"segments":[]', 1)
    segments = b",".join(encode(segment.model_dump(mode="python")) for segment in document.segments)
    return b"".join((before, b'"segments":[', segments, b"]", after))


def _stored(body: bytes) -> StoredResult:
    return StoredResult(bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


def summarize(
    document: Transcript, body: bytes, timings: Mapping[Stage, float], elapsed_s: float
) -> JobSummary:
    """Return the job's output when its transcript is in S3.

    Args:
        document: The transcript.
        body: The same, as it was stored.
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
        result=_stored(body),
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
        WorkerError: ``STORAGE_UNAVAILABLE`` or ``RESULT_EXISTS`` when not even the text fits.
    """
    if not isinstance(error, WorkerError):
        said = f"{type(error).__name__} while the transcript was stored"
        error = WorkerError(FailureCode.INTERNAL, said, Stage.DELIVER)
    sent = ""
    for form, reduced in _forms(document):  # the whole document first, which was sent
        body = encode_transcript(reduced)
        result = _stored(body)
        sent = sent or result.sha256
        output = UploadFailed(
            failure=error.to_failure(),
            form=form,
            transcript_gzip_base64=base64.b64encode(gzip.compress(body, mtime=0)).decode("ascii"),
            result=result,
            sent_sha256=sent,
            request_id=document.request_id,
        ).model_dump(mode="json", exclude_none=True)
        if len(encode(output)) <= max_bytes:
            return output
    message = f"{error}, and the transcript is too large for the output; SHA-256: {sent}"
    others = FailureCode.STORAGE_UNAVAILABLE
    code = error.code if error.code is FailureCode.RESULT_EXISTS else others
    raise WorkerError(code, message, Stage.DELIVER)


def _forms(document: Transcript) -> Iterator[tuple[TranscriptForm, Transcript]]:
    """Give the document's forms, largest first."""
    yield TranscriptForm.COMPLETE, document
    unscored = tuple(_unscored(segment) for segment in document.segments)
    yield TranscriptForm.WITHOUT_SCORES, document.model_copy(update={"segments": unscored})
    bare = tuple(segment.model_copy(update={"words": ()}) for segment in unscored)
    yield TranscriptForm.WITHOUT_WORDS, document.model_copy(update={"segments": bare})


def _unscored(segment: Segment) -> Segment:
    """Return the segment without any figure; what they led to, its flags, stays."""
    words = tuple(word.model_copy(update={"score": None}) for word in segment.words)
    figures = ("avg_logprob", "compression_ratio", "no_speech_prob")
    return segment.model_copy(update={"words": words, **dict.fromkeys(figures)})

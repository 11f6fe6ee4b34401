"""A transcript that S3 did not take, in the job's output: the largest form that fits.

The GPU work is done and paid for. RunPod takes outputs of 10 MB; a day of speech compresses to
less, and where it does not, scores go first, then words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contract import FailureCode, Stage, Transcript, TranscriptForm, UploadFailed
from worker.encode import MAX_OUTPUT_BYTES, EncodedTranscript, encode
from worker.errors import WorkerError


def upload_failed(
    document: Transcript, error: Exception, max_bytes: int = MAX_OUTPUT_BYTES
) -> dict[str, Any]:
    """Return the output that carries the transcript.

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

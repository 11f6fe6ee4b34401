"""Ends a session: turns a job's last status into an `Outcome` by looking at S3.

A transcript that the worker could not PUT is written here with the edge's own keys.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass

from contract import JobFailure, JobStatus, JobSummary, UploadFailed
from edge_client import transcripts
from edge_client.claim import Claim
from edge_client.errors import TranscriptInvalid
from edge_client.layout import Session
from edge_client.storage import Bucket
from edge_client.transcripts import Delivered
from edge_client.verdict import Result, Unproven, judge


@dataclass(frozen=True)
class Outcome:
    """How a job ended, proven by S3.

    Attributes:
        delivered: With ``done``.
        failure: The worker's own words, where it gave some.
        message: One line for people.
    """

    result: Result
    message: str
    delivered: Delivered | None = None
    failure: JobFailure | None = None


def settle(bucket: Bucket, session: Session, claim: Claim, status: JobStatus | None) -> Outcome:
    """Decide how a job ended.

    Args:
        bucket: Where the transcript should be.
        session: Whose.
        claim: The job's claim: its ``request_id`` tells its transcript from others.
        status: RunPod's last word, None if it has forgotten the job.
    """
    verdict = judge(status)
    if isinstance(verdict, JobFailure):
        return Outcome(Result.FAILED, verdict.message, failure=verdict)
    if isinstance(verdict, UploadFailed):
        return _rescue(bucket, session, verdict)
    if isinstance(verdict, JobSummary):
        return _confirm(bucket, session, verdict)
    return _look(bucket, session, claim, verdict)


def _confirm(bucket: Bucket, session: Session, summary: JobSummary) -> Outcome:
    stored = bucket.head(session.result_key)
    if stored is not None and stored.size_bytes == summary.result.bytes:
        return Outcome(Result.DONE, summary.message, transcripts.of_summary(summary))
    there = "nothing" if stored is None else f"{stored.size_bytes} bytes"
    return Outcome(
        Result.LOST,
        f"the worker stored {summary.result.bytes} bytes, S3 has {there} at "
        f"{session.result_key}: submit again",
    )


def _look(bucket: Bucket, session: Session, claim: Claim, doubt: Unproven) -> Outcome:
    found = transcripts.find_of_job(bucket, session, claim.request_id)
    if found is not None:
        return Outcome(Result.DONE, "the transcript is in S3", found)
    return Outcome(doubt.result, doubt.message)


def _rescue(bucket: Bucket, session: Session, answer: UploadFailed) -> Outcome:
    try:
        body = unpack(answer)
        doc = transcripts.parse(body)
    except TranscriptInvalid as exc:
        return Outcome(Result.FAILED, f"{answer.failure.message}; {exc}", failure=answer.failure)
    bucket.write(session.result_key, body)
    return Outcome(
        Result.DONE,
        "the worker could not reach S3; the edge stored the transcript",
        doc.delivered(len(body)),
    )


def unpack(answer: UploadFailed) -> bytes:
    """Return the transcript inside a worker's answer.

    Raises:
        TranscriptInvalid: It is damaged: not gzip, or not what its checksum says.
    """
    try:
        packed = base64.b64decode(answer.transcript_gzip_base64, validate=True)
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            body = file.read(answer.result.bytes + 1)  # never more than was promised
    except (ValueError, OSError, EOFError, zlib.error) as exc:
        raise TranscriptInvalid("the transcript in the job's output is damaged") from exc
    if hashlib.sha256(body).hexdigest() != answer.result.sha256:
        raise TranscriptInvalid("the transcript in the job's output fails its checksum")
    return body

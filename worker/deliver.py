"""Deliver: the transcript into S3, by presigned PUT.

Takes the encoded transcript and the result URL; returns nothing when S3 has it. A 200 is not
enough: where the ETag is an MD5, it must be that of what was sent.

Raises `WorkerError` ``STORAGE_UNAVAILABLE`` when it has not, after `ATTEMPTS` tries where
another one can help. The pipeline then puts the transcript into the job's output.
"""

from __future__ import annotations

import hashlib

import requests
import stamina

from contract import FailureCode, PresignedUrl, Stage
from worker.encode import EncodedTranscript
from worker.errors import WorkerError
from worker.storage import error_text, exchange, stored_md5

ATTEMPTS = 4
CONTENT_TYPE = "application/json"
_RESCUED = "the transcript is in the job's output"


class _Passing(WorkerError):
    """S3 may take it on the next try."""


def deliver(transcript: EncodedTranscript, result_url: PresignedUrl) -> None:
    """PUT the document.

    Args:
        transcript: What is stored, byte for byte.
        result_url: Signed with the content type ``application/json``.
    """
    for attempt in stamina.retry_context(on=_Passing, attempts=ATTEMPTS, timeout=None):
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
        raise _Passing(exc.code, f"{exc}; {_RESCUED}", exc.stage) from exc
    said = f"S3 answered {status} {code} {message}".strip()
    passing = status >= requests.codes.server_error or status == requests.codes.too_many_requests
    kind = _Passing if passing else WorkerError
    raise kind(
        FailureCode.STORAGE_UNAVAILABLE,
        f"{said}; {_RESCUED}",
        Stage.DELIVER,
    )


def _compare(body: bytes, response: requests.Response) -> None:
    stored = stored_md5(response)
    if stored is None or stored == hashlib.md5(body, usedforsecurity=False).hexdigest():
        return
    message = "S3 stored other bytes than were sent"
    raise WorkerError(FailureCode.STORAGE_UNAVAILABLE, message, Stage.DELIVER)

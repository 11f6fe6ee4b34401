"""Fetch: the recording, from a presigned URL or the request itself, into the job's directory.

Takes the job input and a directory; returns a `Recording`. Streams in blocks, so memory stays
flat and the size cap holds while bytes arrive.

Raises `WorkerError`: ``AUDIO_URL_EXPIRED``, ``AUDIO_FORBIDDEN``, ``AUDIO_NOT_FOUND``,
``STORAGE_UNAVAILABLE``, ``AUDIO_TRUNCATED``, ``AUDIO_TOO_LARGE``, ``URL_NOT_ALLOWED``,
``INVALID_INPUT`` (undecodable base64).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import requests
import stamina

from contract import FailureCode, JobInput, PresignedUrl, Stage
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.storage import error_text, exchange
from worker.urls import expires_at
from worker.values import Recording

BLOCK_BYTES = 1 << 20
ATTEMPTS = 3


def fetch(
    job: JobInput,
    into: Path,
    max_bytes: int,
    token: CancelToken,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Recording:
    """Bring the recording into the directory ``into``.

    Args:
        job: Names the source.
        into: The job's temporary directory.
        max_bytes: The recording may not be larger.
        token: Looked at between blocks.
        on_progress: Given the share that has arrived, in [0, 1].
    """
    path = into / "recording"
    if job.audio_url is None:
        return _unpack(job.audio_base64 or "", path, max_bytes)
    for attempt in stamina.retry_context(on=_is_passing, attempts=ATTEMPTS, timeout=None):
        with attempt:
            _download(job.audio_url, path, max_bytes, token, on_progress)
    return Recording(path, path.stat().st_size)


def _is_passing(exc: Exception) -> bool:
    return isinstance(exc, WorkerError) and exc.code is FailureCode.STORAGE_UNAVAILABLE


def _unpack(text: str, path: Path, max_bytes: int) -> Recording:
    if len(text) * 3 // 4 > max_bytes:
        raise _too_large(max_bytes)
    try:
        size = path.write_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        message = f"audio_base64 is not base64 ({exc}); send standard base64 without line breaks"
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.FETCH) from exc
    return Recording(path, size)


def _download(
    url: PresignedUrl,
    path: Path,
    max_bytes: int,
    token: CancelToken,
    on_progress: Callable[[float], None],
) -> None:
    headers = {"Accept-Encoding": "identity"}  # bytes as stored: their number is checked
    with exchange("GET", url, Stage.FETCH, headers=headers) as response:
        if response.status_code != requests.codes.ok:
            raise _refusal(url, response)
        declared = int(response.headers.get("Content-Length") or 0)
        if declared > max_bytes:
            raise _too_large(max_bytes)
        received = 0
        with path.open("wb") as file:
            for block in response.iter_content(BLOCK_BYTES):
                token.check(Stage.FETCH)
                received += len(block)
                if received > max_bytes:
                    raise _too_large(max_bytes)
                file.write(block)
                on_progress(received / max(declared, received))
    if received < declared:
        message = f"S3 sent {received} of {declared} bytes; submit again"
        raise WorkerError(FailureCode.AUDIO_TRUNCATED, message, Stage.FETCH)


def _too_large(max_bytes: int) -> WorkerError:
    message = f"the recording is larger than {max_bytes} bytes; raise MAX_AUDIO_BYTES or split it"
    return WorkerError(FailureCode.AUDIO_TOO_LARGE, message, Stage.FETCH)


def _refusal(url: PresignedUrl, response: requests.Response) -> WorkerError:
    status = response.status_code
    code, message = error_text(response)
    said = f"S3 answered {status} {code} {message}".strip()
    if status == requests.codes.not_found:
        return WorkerError(
            FailureCode.AUDIO_NOT_FOUND, f"no recording at {url.masked}: {said}", Stage.FETCH
        )
    if status >= requests.codes.server_error or status == requests.codes.too_many_requests:
        return WorkerError(
            FailureCode.STORAGE_UNAVAILABLE, f"{said}; submit again later", Stage.FETCH
        )
    if status < requests.codes.bad_request:
        return WorkerError(
            FailureCode.URL_NOT_ALLOWED,
            f"audio_url redirects ({said}); sign it for the bucket's own region",
            Stage.FETCH,
        )
    ends = expires_at(url)
    if "expired" in f"{code} {message}".lower() or (ends and ends <= datetime.now(UTC)):
        ended = f" It ended {ends:%Y-%m-%dT%H:%M:%SZ}." if ends else ""
        return WorkerError(
            FailureCode.AUDIO_URL_EXPIRED, f"{said}.{ended} Sign audio_url again", Stage.FETCH
        )
    return WorkerError(
        FailureCode.AUDIO_FORBIDDEN,
        f"{said}; check the signature and the signer's s3:GetObject permission",
        Stage.FETCH,
    )

"""Fetch: the recording, from a presigned URL or the request itself, into the job's directory.

Takes the job input and a directory; returns a `Recording`. Streams in blocks, so memory stays
flat and the size cap holds while bytes arrive.

Raises `WorkerError`: ``AUDIO_URL_EXPIRED``, ``AUDIO_FORBIDDEN``, ``AUDIO_NOT_FOUND``,
``STORAGE_UNAVAILABLE``, ``AUDIO_TRUNCATED``, ``AUDIO_TOO_LARGE``, ``URL_NOT_ALLOWED``,
``INVALID_INPUT`` (undecodable base64), ``INTERNAL`` (a full disk).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path

from contract import FailureCode, JobInput, Stage
from worker.cancel import CancelToken
from worker.download import Download, DownloadLimits
from worker.errors import WorkerError
from worker.values import Recording

FILE = "recording"


def fetch(
    job: JobInput,
    into: Path,
    limits: DownloadLimits,
    token: CancelToken,
    on_progress: Callable[[float], None] = lambda _: None,
    on_stored: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Bring the recording into the directory ``into``.

    Args:
        job: Names the source.
        into: The job's temporary directory.
        limits: What it may cost.
        token: Looked at between blocks.
        on_progress: Given the share that has arrived, in [0, 1].
        on_stored: As `Download` has it.
    """
    path = into / FILE
    if job.audio_url is None:
        return _unpack(job.audio_base64 or "", path, limits)
    return Download(job.audio_url, path, limits, token, on_progress, on_stored).run()


def _unpack(text: str, path: Path, limits: DownloadLimits) -> Recording:
    limits.check_size(len(text) * 3 // 4)
    try:
        size = path.write_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        message = f"audio_base64 is not base64 ({exc}); send standard base64 without line breaks"
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.FETCH) from exc
    return Recording(path, size)

"""Fetch: the recording, from a presigned URL or the request itself, into the job's directory.

Takes the job input and a directory; returns a `Recording`. Raises `WorkerError`:
``AUDIO_URL_EXPIRED``, ``AUDIO_FORBIDDEN``, ``AUDIO_NOT_FOUND``, ``STORAGE_UNAVAILABLE``,
``AUDIO_TRUNCATED``, ``AUDIO_TOO_LARGE``, ``URL_NOT_ALLOWED``, ``INVALID_INPUT`` (undecodable
base64), ``INTERNAL`` (a full disk).
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import requests
import stamina

from bucketscribe_contract import AUDIO_ETAG_PATTERN, FailureCode, JobInput, PresignedUrl, Stage
from worker.cancel import StageContext
from worker.errors import WorkerError
from worker.http import clock_skew_s, describe_error, exchange, expires_at, is_passing, stored_md5
from worker.types import Recording

FILE = "recording"
BLOCK_BYTES = 1 << 18  # a reset loses the current block
ATTEMPTS = 8
_RESERVE_BYTES = 64 << 20
_PREFIX = "bucketscribe-"


def map_refusal(url: PresignedUrl, response: requests.Response) -> WorkerError:
    """Return the failure for a response that is no recording.

    Args:
        url: What was asked.
        response: Any status but 200 and 206; its body is read for S3's own code.
    """
    status, said = response.status_code, describe_error(response)
    if status == requests.codes.not_found:
        return _failed(FailureCode.AUDIO_NOT_FOUND, f"no recording at {url.masked}: {said}")
    if is_passing(response):
        return _failed(FailureCode.STORAGE_UNAVAILABLE, f"{said}; submit again later")
    if status < requests.codes.bad_request:
        remedy = "sign it for the bucket's own region"
        return _failed(FailureCode.URL_NOT_ALLOWED, f"audio_url redirects ({said}); {remedy}")
    ends = expires_at(url)
    now = datetime.now(UTC) + timedelta(seconds=clock_skew_s(response))
    if "expired" in said.lower() or (ends and ends <= now):
        ended = f" It ended {ends:%Y-%m-%dT%H:%M:%SZ}." if ends else ""
        return _failed(FailureCode.AUDIO_URL_EXPIRED, f"{said}.{ended} Sign audio_url again")
    remedy = "check the signature and the signer's s3:GetObject permission"
    return _failed(FailureCode.AUDIO_FORBIDDEN, f"{said}; {remedy}")


@dataclass(frozen=True)
class DownloadLimits:
    """Limits of a download.

    Attributes:
        max_bytes: Largest object.
        total_s: Longest time, all attempts together.
    """

    max_bytes: int
    total_s: float = 3600.0

    def check_size(self, size: int) -> None:
        """Raise ``AUDIO_TOO_LARGE`` for an object over the limit."""
        if size > self.max_bytes:
            limit = f"the recording is larger than {self.max_bytes} bytes"
            raise _failed(
                FailureCode.AUDIO_TOO_LARGE, f"{limit}; raise MAX_AUDIO_BYTES or split it"
            )


class _Interrupted(WorkerError):
    """The transfer broke; another attempt can go on from here."""


@dataclass
class Download:
    """A download and its state, which lets another attempt continue it.

    Args:
        url: Presigned GET.
        path: Where the bytes go.
        limits: Of its size and time.
        ctx: Checked between blocks.
        on_stored: Given how many bytes the file has; fewer than before when it begins anew.
    """

    url: PresignedUrl
    path: Path
    limits: DownloadLimits
    ctx: StageContext
    on_stored: Callable[[int], None] = lambda _: None
    _received: int = 0
    _declared: int = 0
    _etag: str = ""
    _md5: str | None = None
    _skew_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def run(self) -> Recording:
        """Download the whole object, or raise the last attempt's failure."""
        for attempt in stamina.retry_context(
            on=_Interrupted, attempts=ATTEMPTS, timeout=self.limits.total_s, wait_max=15.0
        ):
            with attempt:
                self._go_on()
        etag = self._etag if re.fullmatch(AUDIO_ETAG_PATTERN, self._etag) else None
        return Recording(self.path, self._received, self._skew_s, etag)

    def _go_on(self) -> None:
        headers = {"Accept-Encoding": "identity"}  # bytes as stored: their number is checked
        if not self._etag or self._etag.startswith("W/"):
            self._received = 0
        if self._received:
            headers |= {"Range": f"bytes={self._received}-", "If-Match": self._etag}
        try:
            with exchange("GET", self.url, Stage.FETCH, headers=headers) as response:
                self._accept(response)
                self._store(response)
        except WorkerError as exc:
            if exc.code is FailureCode.STORAGE_UNAVAILABLE:
                raise _Interrupted(exc.code, str(exc), exc.stage) from exc
            raise
        except OSError as exc:
            raise self._disk_full(exc) from exc
        self._verify()

    def _accept(self, response: requests.Response) -> None:
        """Check whether the response is the object's beginning, or its continuation."""
        self._skew_s = clock_skew_s(response)
        status = response.status_code
        etag = response.headers.get("ETag", "")
        if status == requests.codes.partial_content and self._received:
            if etag not in ("", self._etag):  # from who does not know If-Match
                raise self._replaced()
            return
        if status == requests.codes.precondition_failed and self._received:
            raise self._replaced()
        if status == requests.codes.requested_range_not_satisfiable and self._received:
            raise self._truncated()
        if status != requests.codes.ok:
            raise map_refusal(self.url, response)
        self._received = 0
        self._declared = int(response.headers.get("Content-Length") or 0)
        self._etag = etag
        self._md5 = stored_md5(response)
        self.limits.check_size(self._declared)
        if shutil.disk_usage(self.path.parent).free < self._declared + _RESERVE_BYTES:
            raise self._disk_full(None)

    def _store(self, response: requests.Response) -> None:
        with self.path.open("ab") as file:
            file.truncate(self._received)
            self.on_stored(self._received)
            for block in response.iter_content(BLOCK_BYTES):
                self.ctx.cancel.check(Stage.FETCH)
                self.limits.check_size(self._received + len(block))
                if time.monotonic() - self._started > self.limits.total_s:
                    raise _failed(
                        FailureCode.STORAGE_UNAVAILABLE,
                        f"the recording took over {self.limits.total_s:.0f} s; submit again",
                    )
                file.write(block)
                file.flush()
                self._received += len(block)
                self.on_stored(self._received)
                self.ctx.progress(self._received / max(self._declared, self._received))

    def _verify(self) -> None:
        if self._received < self._declared:
            raise _Interrupted(FailureCode.AUDIO_TRUNCATED, str(self._truncated()), Stage.FETCH)
        if self._md5 is None:
            return
        with self.path.open("rb") as file:
            arrived = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if arrived.hexdigest() != self._md5:
            self._received = 0
            message = "the bytes that arrived are not those that S3 stores; submit again"
            raise _Interrupted(FailureCode.AUDIO_TRUNCATED, message, Stage.FETCH)

    def _replaced(self) -> _Interrupted:
        self._received = 0
        message = "the recording was replaced while it was fetched, again and again; submit again"
        return _Interrupted(FailureCode.STORAGE_UNAVAILABLE, message, Stage.FETCH)

    def _truncated(self) -> WorkerError:
        message = f"S3 sent {self._received} of {self._declared} bytes; submit again"
        return _failed(FailureCode.AUDIO_TRUNCATED, message)

    def _disk_full(self, cause: OSError | None) -> WorkerError:
        if cause is not None and cause.errno != errno.ENOSPC:
            reason = f"the worker's disk failed ({cause.strerror})"
        else:
            reason = f"the worker's disk has no room for {self._declared} bytes"
        remedy = "give the endpoint a larger container disk"
        return _failed(FailureCode.INTERNAL, f"{reason}; {remedy}")


def _failed(code: FailureCode, message: str) -> WorkerError:
    return WorkerError(code, message, Stage.FETCH)


def fetch(
    job: JobInput,
    into: Path,
    limits: DownloadLimits,
    ctx: StageContext,
    on_stored: Callable[[int], None] = lambda _: None,
) -> Recording:
    """Store the recording in the directory ``into``.

    Args:
        job: Names the source.
        into: The job's temporary directory.
        limits: Of its size and time.
        ctx: Checked between blocks.
        on_stored: As in `Download`.
    """
    path = into / FILE
    if job.audio_url is None:
        return _unpack(job.audio_base64 or "", path, limits)
    return Download(job.audio_url, path, limits, ctx, on_stored).run()


def _unpack(text: str, path: Path, limits: DownloadLimits) -> Recording:
    limits.check_size(len(text) * 3 // 4)
    try:
        size = path.write_bytes(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError) as exc:
        message = f"audio_base64 is not base64 ({exc}); send standard base64 without line breaks"
        raise WorkerError(FailureCode.INVALID_INPUT, message, Stage.FETCH) from exc
    return Recording(path, size)


@contextmanager
def job_directory() -> Iterator[Path]:
    """Give an empty directory, and remove it with all that is in it.

    A killed process leaves its directory behind. The name holds the process's id, in a container
    1 every time, so a directory with this process's own id was left by an earlier one.
    """
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-") as folder:
        yield Path(folder)


def remove_stale_directories() -> int:
    """Remove the directories of dead processes; call it before the first job.

    Returns:
        How many there were.
    """
    folders = Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*")
    stale = [path for path in folders if _is_stale(path)]
    for path in stale:
        shutil.rmtree(path, ignore_errors=True)
    return len(stale)


def _is_stale(path: Path) -> bool:
    pid = path.name.removeprefix(_PREFIX).split("-")[0]
    return pid.isdigit() and (int(pid) == os.getpid() or not psutil.pid_exists(int(pid)))

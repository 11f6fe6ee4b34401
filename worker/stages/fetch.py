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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

import psutil
import stamina
from urllib3 import HTTPResponse

from bucketscribe_contract import AUDIO_ETAG_PATTERN, FailureCode, JobInput, PresignedUrl, Stage
from worker.cancel import Deadline, StageContext
from worker.errors import WorkerError
from worker.http import clock_skew_s, describe_error, exchange, is_passing, stored_md5
from worker.types import Recording
from worker.urls import UrlPolicy, expires_at

FILE = "recording"
BLOCK_BYTES = 1 << 18  # a reset loses the current block
ATTEMPTS = 12
_MAX_PAUSE_S = 1.5  # a cancellation waits for it
_RESERVE_BYTES = 64 << 20
_PREFIX = "bucketscribe-"
_LENGTH = re.compile(r"[0-9]{1,15}")
_RANGE = re.compile(r"bytes ([0-9]{1,15})-([0-9]{1,15})/([0-9]{1,15})")


def map_refusal(url: PresignedUrl, response: HTTPResponse) -> WorkerError:
    """Return the failure for a response that is no recording.

    Args:
        url: What was asked.
        response: Any status but 200 and 206; its body is read for S3's own code.
    """
    status, said = response.status, describe_error(response)
    if status == HTTPStatus.NOT_FOUND:
        return _failed(FailureCode.AUDIO_NOT_FOUND, f"no recording at {url.masked}: {said}")
    if is_passing(response) or status < HTTPStatus.MULTIPLE_CHOICES:
        return _failed(FailureCode.STORAGE_UNAVAILABLE, f"{said}; submit again later")
    if status < HTTPStatus.BAD_REQUEST:
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
        policy: Judges where it comes from.
        total_s: Longest time, all attempts together.
    """

    max_bytes: int
    policy: UrlPolicy = UrlPolicy()
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
        limits: Of its source, size and time.
        ctx: Ends it, also between blocks.
        on_stored: Given how many bytes the file has; fewer than before when it begins anew.
    """

    url: PresignedUrl
    path: Path
    limits: DownloadLimits
    ctx: StageContext
    on_stored: Callable[[int], None] = lambda _: None
    _received: int = 0
    _declared: int | None = None
    _etag: str = ""
    _md5: str | None = None
    _skew_s: float = 0.0
    _deadline: Deadline = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = Deadline(self.limits.total_s, self.ctx.cancel, Stage.FETCH)

    def run(self) -> Recording:
        """Download the whole object, or raise the last attempt's failure."""
        for attempt in stamina.retry_context(
            on=_Interrupted,
            attempts=ATTEMPTS,
            timeout=self.limits.total_s,
            wait_max=_MAX_PAUSE_S,
        ):
            with attempt:
                self._go_on()
        etag = self._etag if re.fullmatch(AUDIO_ETAG_PATTERN, self._etag) else None
        return Recording(self.path, self._received, self._skew_s, etag)

    def _go_on(self) -> None:
        headers = {}
        if not self._etag or self._etag.startswith("W/"):
            self._received = 0
        if self._received:
            headers = {"Range": f"bytes={self._received}-", "If-Match": self._etag}
        request = "GET", self.url, self.limits.policy, self._deadline
        try:
            with exchange(*request, headers=headers) as response:
                self._accept(response)
                self._store(response)
        except WorkerError as exc:
            if exc.code is FailureCode.STORAGE_UNAVAILABLE:
                raise _Interrupted(exc.code, str(exc), exc.stage) from exc
            raise
        except OSError as exc:
            raise self._disk_full(exc) from exc
        self._verify()

    def _accept(self, response: HTTPResponse) -> None:
        """Check whether the response is the object's beginning, or its continuation."""
        self._skew_s = clock_skew_s(response)
        status = response.status
        etag = response.headers.get("ETag", "")
        if status == HTTPStatus.PARTIAL_CONTENT and self._received:
            if etag not in ("", self._etag):  # from who does not know If-Match
                raise self._anew("the recording was replaced while it was fetched, again and again")
            self._check_range(response.headers.get("Content-Range", ""))
            return
        if status == HTTPStatus.PRECONDITION_FAILED and self._received:
            raise self._anew("the recording was replaced while it was fetched, again and again")
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and self._received:
            raise self._anew(self._shortage, FailureCode.AUDIO_TRUNCATED)
        if status != HTTPStatus.OK:
            raise map_refusal(self.url, response)
        self._begin(response)

    def _begin(self, response: HTTPResponse) -> None:
        self._received = 0
        length = response.headers.get("Content-Length")
        if length is not None and not _LENGTH.fullmatch(length):
            raise self._anew("S3's answer has no valid Content-Length")
        self._declared = None if length is None else int(length)
        self._etag = response.headers.get("ETag", "")
        self._md5 = stored_md5(response)
        self.limits.check_size(self._declared or 0)
        free = shutil.disk_usage(self.path.parent).free
        if free < (self._declared or 0) + _RESERVE_BYTES:
            raise self._disk_full(None)

    def _check_range(self, said: str) -> None:
        """Check that an answer is the whole rest of the object that was begun."""
        found = _RANGE.fullmatch(said)
        first, last, total = map(int, found.groups()) if found else (-1, -1, -1)
        declared = total if self._declared is None else self._declared
        if (first, last + 1, total) != (self._received, declared, declared):
            raise self._anew("S3 sent another range than was asked for")
        self._declared = total

    def _store(self, response: HTTPResponse) -> None:
        with self.path.open("ab") as file:
            file.truncate(self._received)
            self.on_stored(self._received)
            for block in response.stream(BLOCK_BYTES, decode_content=False):
                self._deadline.check()
                self.limits.check_size(self._received + len(block))
                file.write(block)
                file.flush()
                self._received += len(block)
                self.on_stored(self._received)
                self.ctx.progress(self._received / max(self._declared or 0, self._received))

    def _verify(self) -> None:
        declared = self._received if self._declared is None else self._declared
        if self._received > declared:
            raise self._anew("S3 sent more than it declared")
        if self._received < declared:
            message = f"{self._shortage}; submit again"
            raise _Interrupted(FailureCode.AUDIO_TRUNCATED, message, Stage.FETCH)
        if self._md5 is None:
            return
        with self.path.open("rb") as file:
            arrived = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
        if arrived.hexdigest() != self._md5:
            raise self._anew(
                "the bytes that arrived are not those that S3 stores", FailureCode.AUDIO_TRUNCATED
            )

    def _anew(self, why: str, code: FailureCode = FailureCode.STORAGE_UNAVAILABLE) -> _Interrupted:
        self._received = 0
        return _Interrupted(code, f"{why}; submit again", Stage.FETCH)

    @property
    def _shortage(self) -> str:
        return f"S3 sent {self._received} of {self._declared} bytes"

    def _disk_full(self, cause: OSError | None) -> WorkerError:
        if cause is not None and cause.errno != errno.ENOSPC:
            reason = f"the worker's disk failed ({cause.strerror})"
        else:
            reason = f"the worker's disk has no room for {self._declared} bytes"
        remedy = "give the endpoint a larger container disk"
        return _failed(FailureCode.INTERNAL, f"{reason}; {remedy}")


def _failed(code: FailureCode, message: str) -> WorkerError:
    return WorkerError(code, message, Stage.FETCH)


def local_recording(path: Path) -> Recording:
    """Return a file of this machine as a recording; raises `WorkerError` if it cannot be read."""
    try:
        with path.open("rb") as file:
            return Recording(path.absolute(), os.fstat(file.fileno()).st_size)
    except OSError as exc:
        code = _UNREADABLE.get(type(exc), FailureCode.AUDIO_UNREADABLE)
        raise _failed(code, f"{path}: {exc.strerror}; name a recording that can be read") from exc


_UNREADABLE: dict[type[OSError], FailureCode] = {
    FileNotFoundError: FailureCode.AUDIO_NOT_FOUND,
    PermissionError: FailureCode.AUDIO_FORBIDDEN,
}


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
        limits: Of its source, size and time.
        ctx: Ends it, also between blocks.
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

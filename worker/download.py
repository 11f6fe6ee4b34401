"""One object from S3 to a file, through resets, stalls and errors, from where it stopped.

A broken transfer goes on with ``Range`` and ``If-Match`` on the ETag, so bytes that arrived are
not paid for twice and never mixed with those of another version; without an ETag that can be
matched (RFC 9110, 13.1.1: a weak one cannot) it starts over. Length and, where the ETag is one,
MD5 are verified.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import requests
import stamina

from contract import AUDIO_ETAG_PATTERN, FailureCode, PresignedUrl, Stage
from worker.cancel import CancelToken
from worker.errors import WorkerError
from worker.refusals import refusal
from worker.storage import clock_skew_s, exchange, stored_md5
from worker.values import Recording

BLOCK_BYTES = 1 << 18  # a reset loses the block at hand
ATTEMPTS = 8
_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True)
class DownloadLimits:
    """What a download may cost.

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
    """A transfer and how far it came.

    Args:
        url: Presigned GET.
        path: Where the bytes go.
        limits: What it may cost.
        token: Looked at between blocks.
        on_progress: Given the share that has arrived, in [0, 1].
        on_stored: Given how many bytes stand in the file; fewer than before when it begins anew.
    """

    url: PresignedUrl
    path: Path
    limits: DownloadLimits
    token: CancelToken
    on_progress: Callable[[float], None] = lambda _: None
    on_stored: Callable[[int], None] = lambda _: None
    _received: int = 0
    _declared: int = 0
    _etag: str = ""
    _md5: str | None = None
    _skew_s: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def run(self) -> Recording:
        """Bring the whole object, or raise what the last attempt met."""
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
        """Take the response as the object's beginning, or as its continuation."""
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
            raise refusal(self.url, response)
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
                self.token.check(Stage.FETCH)
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
                self.on_progress(self._received / max(self._declared, self._received))

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

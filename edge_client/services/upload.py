"""Uploads a file as a recording; what was cut off goes on with the parts that are missing.

A part that S3 has counts if its size and digest are those of the file's part now: a changed file is
never mixed with what it was. A recording that is there is never replaced. Raises `BadUsage` for a
file that cannot be read or a key that is taken, and what S3 answers.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import unicodedata
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from edge_client.errors import BadUsage, EdgeError, ObjectRefused, PreconditionFailed
from edge_client.services.edge import Edge
from edge_client.services.presign import only_over
from edge_client.services.s3 import put_params, translated
from edge_client.session import USER, Session
from edge_client.text import visible

LOCAL = "local"
"""The user, where none is said."""
PART_BYTES = 8 * 2**20
MAX_PARTS = 10_000
PARTS_AT_ONCE = 4
Moved = Callable[[int], None]
"""Told how many bytes were sent, less than 0 where they are sent again."""


def destination(edge: Edge, path: Path, user: str | None, name: str | None) -> Session:
    """Return where a file goes: what is not said is `LOCAL`, and the file's name.

    Raises `BadUsage` if RECORDING_PATTERN has no such place.
    """
    recordings = edge.settings.recordings
    stem = re.sub(r"[^\w.-]+", "_", unicodedata.normalize("NFC", path.stem)).strip("._")
    stem = stem or "recording"
    if user is None:
        user = LOCAL if USER in recordings.text else ""
    session = recordings.place(user, stem if name is None else name, stem)
    if session is None:
        raise BadUsage(
            f"--user {user!r} --session {name or stem!r}: RECORDING_PATTERN ({recordings.text}) "
            "has no such key; names have no slash, and with * nothing can be uploaded"
        )
    return session


def upload(edge: Edge, path: Path, session: Session, moved: Moved = lambda _: None) -> bool:
    """Store a file as a session's recording; return False if it was there already."""
    try:
        with path.open("rb") as file:
            return _Upload(edge, file, session.audio_key, moved).run()
    except OSError as exc:
        raise BadUsage(f"{visible(str(path))}: {exc.strerror or exc}") from exc


class _Digest(NamedTuple):
    """A digest, and what requests and answers call it."""

    algorithm: str
    sent: str
    told: str

    def of(self, data: bytes) -> bytes:
        return hashlib.new(self.algorithm, data, usedforsecurity=False).digest()

    def text(self, digest: bytes) -> str:
        return digest.hex() if self.told == "ETag" else b64encode(digest).decode()

    def is_of(self, answer: Any, digest: bytes, parts: str = "") -> bool:
        """Tell whether S3 says this digest of what it has."""
        return str(answer.get(self.told, "")).strip('"') == self.text(digest) + parts


SHA256 = _Digest("sha256", "ChecksumSHA256", "ChecksumSHA256")
"""AWS keeps it of each part, whatever the encryption."""
MD5 = _Digest("md5", "ContentMD5", "ETag")
"""Of other servers, and of objects that others stored."""


class _Stopped(BaseException):
    """Another part failed, or the user pressed Ctrl-C; nothing of botocore's takes it for its."""


class _Body(BytesIO):
    """A request's body, which tells how far it is read: to be signed, sent, and sent again."""

    def __init__(self, data: bytes, moved: Moved, stop: threading.Event) -> None:
        super().__init__(data)
        self._tell_moved, self._stop = moved, stop

    def read(self, size: int | None = -1, /) -> bytes:
        if self._stop.is_set():
            raise _Stopped
        data = super().read(size)
        self._tell_moved(len(data))
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        before = self.tell()
        after = super().seek(offset, whence)
        self._tell_moved(after - before)
        return after


class _Upload:
    """One file on its way to one key, in parts whose length follows from the file's."""

    def __init__(self, edge: Edge, file: BinaryIO, key: str, moved: Moved) -> None:
        self._edge, self._client = edge, edge.connection.client
        self._file, self._stat = file, os.fstat(file.fileno())
        self._key, self._moved, self._stop = key, moved, threading.Event()
        self._target: Any = {"Bucket": edge.bucket.name, "Key": key}
        self._digest = SHA256 if edge.connection.is_aws else MD5
        self._algorithm: Any = {"ChecksumAlgorithm": "SHA256"} if edge.connection.is_aws else {}
        self._made: Any = put_params(edge.settings.put_headers)
        del self._made["ContentType"]  # the worker looks into the file
        self._condition: Any = put_params(only_over(None, edge.settings))
        size = self._stat.st_size
        megabytes = -(-size // (MAX_PARTS * 2**20))
        self._part_bytes = max(PART_BYTES, megabytes * 2**20)
        self._parts = max(1, -(-size // self._part_bytes))

    def run(self) -> bool:
        """Store the file, unless it is there."""
        if not self._stat.st_size:
            raise BadUsage(f"{visible(str(self._file.name))} is empty")
        if self._is_there():
            return False
        try:
            self._put() if self._parts == 1 else self._put_parts()
        except (PreconditionFailed, ObjectRefused):
            if not self._is_there():  # another box's, or of ours, whose answer was lost
                raise
        if self._parts > 1:  # nothing can come of others that were begun, and S3 bills their parts
            for upload in self._begun():
                with suppress(EdgeError), translated(f"DELETE {self._key}"):
                    self._client.abort_multipart_upload(**self._target, UploadId=upload)
        return True

    def _is_there(self) -> bool:
        there = self._edge.bucket.head(self._key)
        if there is None:
            return False
        if there.size_bytes == self._stat.st_size:
            with translated(f"HEAD {self._key}"):
                answer = self._client.head_object(**self._target, ChecksumMode="ENABLED")
            if self._is_of_file(answer):
                return True
        place = f"s3://{self._edge.bucket.name}/{self._key}"
        raise BadUsage(f"another recording is at {place}: give this one another --session")

    def _is_of_file(self, answer: Any) -> bool:
        """Tell whether an object is the file, stored whole or in parts as ours."""
        for digest in (SHA256, MD5):
            if digest.told not in answer:
                continue
            whole, parts = hashlib.new(digest.algorithm, usedforsecurity=False), b""
            for number in range(1, self._parts + 1):
                data = self._read(number)
                whole.update(data)
                parts += digest.of(data)
            is_whole = digest.is_of(answer, whole.digest())
            if is_whole or digest.is_of(answer, digest.of(parts), f"-{self._parts}"):
                return True
        return False

    def _read(self, number: int) -> bytes:
        at = (number - 1) * self._part_bytes
        return os.pread(self._file.fileno(), self._part_bytes, at)

    def _check_unchanged(self) -> None:
        now = os.fstat(self._file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self._stat.st_size, self._stat.st_mtime_ns):
            name = visible(str(self._file.name))
            raise BadUsage(f"{name} changed while it was sent: repeat this once it is whole")

    def _put(self) -> None:
        data = self._read(1)
        self._check_unchanged()
        sent: Any = {"Body": _Body(data, self._moved, self._stop)}
        sent[self._digest.sent] = b64encode(self._digest.of(data)).decode()
        with translated(f"PUT {self._key}"):
            self._client.put_object(**self._target, **sent, **self._made, **self._condition)

    def _put_parts(self) -> None:
        begun = self._begun()
        if not begun:
            with translated(f"PUT {self._key}"):
                made = self._client.create_multipart_upload(
                    **self._target, **self._made, **self._algorithm
                )
        upload = begun[-1] if begun else made["UploadId"]
        there = self._parts_of(upload) if begun else {}
        with ThreadPoolExecutor(PARTS_AT_ONCE, "upload") as pool:
            try:
                put = partial(self._put_part, upload, there)
                parts = list(pool.map(put, range(1, self._parts + 1)))
            except BaseException:
                self._stop.set()
                raise
        self._check_unchanged()
        with translated(f"PUT {self._key}"):
            self._client.complete_multipart_upload(
                **self._target, UploadId=upload, MultipartUpload={"Parts": parts}, **self._condition
            )

    def _begun(self) -> list[str]:
        """Return the uploads to this key that were begun and not ended, the latest last."""
        algorithm = self._algorithm.get("ChecksumAlgorithm")
        pages = self._client.get_paginator("list_multipart_uploads")
        with translated(f"LIST uploads of {self._key}"):
            listed = [
                (each["Initiated"], each["UploadId"])
                for page in pages.paginate(Bucket=self._edge.bucket.name, Prefix=self._key)
                for each in page.get("Uploads", ())
                if (each["Key"], each.get("ChecksumAlgorithm")) == (self._key, algorithm)
            ]
        return [upload for _, upload in sorted(listed)]

    def _parts_of(self, upload: str) -> dict[int, Any]:
        pages = self._client.get_paginator("list_parts")
        with translated(f"LIST parts of {self._key}"):
            found = [*pages.paginate(**self._target, UploadId=upload)]
        return {part["PartNumber"]: part for page in found for part in page.get("Parts", ())}

    def _put_part(self, upload: str, there: dict[int, Any], number: int) -> Any:
        """Send a part, unless it is there; return how the end names it."""
        data = self._read(number)
        digest, part = self._digest.of(data), there.get(number, {})
        is_same = any(each.is_of(part, each.of(data)) for each in (SHA256, MD5))
        if is_same and part["Size"] == len(data):
            self._moved(len(data))
        else:
            sent: Any = {"PartNumber": number, "Body": _Body(data, self._moved, self._stop)}
            sent[self._digest.sent] = b64encode(digest).decode()
            with translated(f"PUT part {number} of {self._key}"):
                part = self._client.upload_part(**self._target, UploadId=upload, **sent)
        named = {"PartNumber": number, "ETag": part["ETag"]}
        return named | ({SHA256.told: SHA256.text(digest)} if self._digest is SHA256 else {})

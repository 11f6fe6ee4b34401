"""One file onto the disk, whatever the connection does; what is left there is right or partial.

Takes a `RemoteFile` and a path; fills the path, going on where an earlier attempt, or an earlier
run, was cut off. A file that is not what it should be is removed and named.
"""

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from threading import Event
from urllib.parse import urlsplit

import requests
from pydantic import SecretStr

from builder.disk import named_when_full
from builder.errors import WrongBytes
from builder.hub import RemoteFile, explain
from builder.wire import Interrupted, Refused, ask, persist

BLOCK_BYTES = 1 << 18


class Cancelled(Exception):
    """Another download failed; this one is not needed any more."""


def download(
    file: RemoteFile,
    path: Path,
    token: SecretStr | None,
    *,
    on_bytes: Callable[[int], object],
    sleep: Callable[[float], object],
    stop: Event,
) -> None:
    """Fetch a file and check it.

    Args:
        file: What to fetch.
        path: Where to; what is there already is taken for the file's beginning, unless there is
            no checksum to find out whether it was.
        token: Sent along for a gated model.
        on_bytes: Told how many bytes more are on the disk, below zero when some were dropped.
        sleep: Waits for so many seconds.
        stop: Set when the file is not wanted any more.

    Raises:
        WrongBytes: It has another checksum or length; it is removed.
        DiskFull: There is no room for it.
        Unreachable: The server does not answer, or has not got it.
        AccessDenied: The hub does not let this token have it.
        Cancelled: `stop` was set.
    """
    known = token if file.model.gated else None
    if file.digest is None:
        path.unlink(missing_ok=True)
    with named_when_full(path.parent), path.open("ab", buffering=0) as stream:
        on_bytes(stream.tell())

        def attempt() -> None:
            _attempt(file, stream, known, on_bytes, stop)

        try:
            persist(attempt, sleep, stream.tell)
        except Refused as exc:
            raise explain(exc, file.model, known) from exc
        except WrongBytes:
            path.unlink()
            raise
    _check(file, path)


def _attempt(
    file: RemoteFile,
    stream: FileIO,
    token: SecretStr | None,
    on_bytes: Callable[[int], object],
    stop: Event,
) -> None:
    """Append what is missing, as far as the connection holds."""
    offset = stream.tell()
    if offset == file.size_bytes:
        return
    server = urlsplit(file.url).netloc

    def begin_anew() -> None:
        on_bytes(-stream.tell())
        stream.truncate(0)
        stream.seek(0)

    try:
        with ask(file.url, token, offset=offset) as answer:
            if offset and answer.status_code == 200:
                begin_anew()
            length = _length(answer)
            _check_length(file, length)
            if length is None or not _goes_on_at(answer, stream.tell()):
                begin_anew()
                raise Interrupted(f"{server} does not say what it sends")
            # What has arrived, rather than whole blocks: a cut costs nothing that was received.
            while block := answer.raw.read1(BLOCK_BYTES):
                if stop.is_set():
                    raise Cancelled
                _write(stream, block)
                on_bytes(len(block))
    except Refused as exc:
        if exc.status != 416:
            raise
        begin_anew()
        raise Interrupted(f"{server} has no byte {offset}") from exc


def _length(answer: requests.Response) -> int | None:
    """Return the length of the whole file, of which a part may be on its way."""
    if answer.status_code == 206:  # Content-Range: bytes FIRST-LAST/TOTAL
        given = answer.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        given = answer.headers.get("Content-Length", "")
    return int(given) if given.isdigit() else None


def _goes_on_at(answer: requests.Response, offset: int) -> bool:
    given = answer.headers.get("Content-Range", "")
    return offset == 0 or given.startswith(f"bytes {offset}-")


def _check_length(file: RemoteFile, length: int | None) -> None:
    if None not in (length, file.size_bytes) and length != file.size_bytes:
        raise WrongBytes(
            f"{file.to}: the server has {length} bytes, {file.size_bytes} are expected: "
            "check the pin, or the place it comes from"
        )


def _write(stream: FileIO, block: bytes) -> None:
    """Write all of a block; an unbuffered file may take less at a time."""
    rest = memoryview(block)
    while rest:
        rest = rest[stream.write(rest) :]


def _check(file: RemoteFile, path: Path) -> None:
    if file.digest is None or file.digest.fits(path):
        return
    found = file.digest.of(path)
    path.unlink()
    raise WrongBytes(
        f"{file.to} from {urlsplit(file.url).netloc} has {file.digest.algorithm} {found}, not "
        f"{file.digest.value}: it was removed; run again, and if it stays so do not trust the place"
    )

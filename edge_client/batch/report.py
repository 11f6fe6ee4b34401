"""The report of a batch: a line of JSON for each session that ended; and which of them failed.

Takes a path and `Record`s. Raises `BadUsage` before anything is submitted if the file cannot be
used, and `ReportLost` for a line that could not be written. A line is written at once and whole, so
a killed batch loses at most the end of its last line. The next run marks such a line as torn, and
appends below it; several runs, and several boxes, can share a file.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ValidationError

from edge_client.batch.types import NO_FAILURE, Record
from edge_client.clock import Clock
from edge_client.errors import BadUsage, EdgeError
from edge_client.session import RecordingPattern, Session
from edge_client.text import visible

TORN = " <- torn"
"""What the next run writes after a line that is not whole. No JSON ends like this."""


class ReportLost(EdgeError):
    """A line of the report could not be written: the disk is full, or gone."""


def line_of(record: Record, clock: Clock) -> str:
    """Return a record as one line of JSON, in ASCII: a name can do nothing to a terminal."""
    ended_at = clock.now().isoformat(timespec="seconds")
    return json.dumps(asdict(record) | {"ended_at": ended_at}) + "\n"


class ReportFile:
    """The file that is appended to; created for its owner alone, because messages name keys."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            status = os.fstat(self._fd)
            is_empty = not stat.S_ISREG(status.st_mode) or not status.st_size
            self._torn = not is_empty and os.pread(self._fd, 1, status.st_size - 1) != b"\n"
        except OSError as exc:
            text = f"{exc.strerror}: give a file that can be written"
            raise BadUsage(f"--report {visible(str(path))}: {text}") from exc

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def add(self, record: Record) -> None:
        """Append one line; `ReportLost` says that it is not there, or not whole."""
        line = line_of(record, self._clock).encode()
        data = f"{TORN}\n".encode() + line if self._torn else line
        try:
            written = os.write(self._fd, data)
        except OSError as exc:
            raise self._lost(exc.strerror or type(exc).__name__) from exc
        self._torn = written < len(data) and (self._torn or written > 0)
        if written < len(data):
            raise self._lost("no room for a whole line")

    def _lost(self, why: str) -> ReportLost:
        return ReportLost(f"the report {visible(str(self._path))} lacks sessions: {why}")


class _Line(BaseModel):
    session: str
    result: str


def failed_in(path: Path, recordings: RecordingPattern) -> tuple[Session, ...]:
    """Return the sessions whose last line says that there is something to try again.

    That is any result but ``done``, ``skipped``, ``not_merged`` and ``no_audio``. The job of a
    session that is ``in_flight`` is then followed. Raises `BadUsage` if there is no such file, or
    a line is not a session's record.
    """
    failed, shown = dict[Session, None](), visible(str(path))
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    seen = _Line.model_validate_json(line)
                    session = recordings.parse(seen.session)
                except (ValidationError, BadUsage):
                    if line.endswith(f"{TORN}\n".encode()) or not line.endswith(b"\n"):
                        continue
                    raise BadUsage(
                        f"--retry-failed {shown}: line {number} is not a session's record: give a "
                        "file that `edge-client batch --report` wrote"
                    ) from None
                failed.pop(session, None)
                if seen.result not in NO_FAILURE:
                    failed[session] = None
    except OSError as exc:
        text = f"{exc.strerror}: give the FILE of an earlier --report FILE"
        raise BadUsage(f"--retry-failed {shown}: {text}") from exc
    return tuple(failed)

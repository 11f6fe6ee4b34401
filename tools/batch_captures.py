"""A batch that never was: what `tools.batch_captures` shows, the same each time.

Puts what a batch prints into its guide: ``python -m tools.batch_captures docs/batch.md``.

The file's blocks between ``<!-- capture: NAME -->`` and ``<!-- /capture -->`` are written anew, of
the real views, on a scripted batch with a scripted clock.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

from rich.console import Console

from edge_client.batch.dry_run import Forecast, show, with_lengths
from edge_client.batch.plan import DONE, NEW, STALE
from edge_client.batch.progress import (
    CountingView,
    JsonLinesView,
    LiveView,
    PlainView,
    print_summary,
)
from edge_client.batch.types import BatchView, Item, Need, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Attempt, Claim
from edge_client.jobs.poll import JobProgress
from edge_client.services.presign import Length, LengthSource
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

_START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
_MINUTES = (74, 31, 58, 12, 95, 44, 27, 63)
_WAV_BYTES_PER_MINUTE = 1_920_000
REQUESTS = {"LIST": 3, "HEAD and GET": 26, "PUT": 16, "/run": 9, "/status": 118}


class ScriptedTime(Clock):
    """Time that passes when the scenario says so."""

    def __init__(self) -> None:
        passed = [0.0]
        super().__init__(
            now=lambda: _START + timedelta(seconds=passed[0]),
            monotonic=lambda: passed[0],
            sleep=lambda seconds: passed.__setitem__(0, passed[0] + seconds),
        )


def first_half(view: BatchView, clock: Clock) -> None:
    """Play until half is done: some jobs run, some are queued."""
    for item in listing():
        view.listed(item)
    view.listing_ended()
    for number in range(6):
        view.submitted(_session(number), _claim(number, clock))
    clock.sleep(95)
    for number in (0, 1, 2):
        view.show(_session(number), JobProgress("running", "transcribe", 18.0))
    for number in (3, 4, 5):
        view.show(_session(number), JobProgress("queued"))
    clock.sleep(220)
    view.note("RunPod does not answer (HTTP 502); the jobs go on, trying again")
    view.ended(_done(1, 371.0, clock))
    view.show(_session(0), JobProgress("running", "transcribe", 41.0))
    view.show(_session(2), JobProgress("running", "align", 66.0))
    view.show(_session(3), JobProgress("running", "fetch", 2.0))
    view.submitted(_session(6), _claim(6, clock))
    view.show(_session(6), JobProgress("queued"))


def second_half(view: BatchView, clock: Clock) -> None:
    """Play to the end: one recording cannot be read, one job is submitted twice."""
    clock.sleep(130)
    view.ended(_unreadable(clock))
    view.ended(_done(2, 590.0, clock))
    view.submitted(_session(7), _claim(7, clock))
    clock.sleep(240)
    view.submitted(_session(5), _claim(5, clock, earlier="STORAGE_UNAVAILABLE"))
    view.ended(_done(0, 884.0, clock))
    clock.sleep(520)
    for number, gpu_s in ((4, 1150.0), (5, 530.0), (6, 322.0), (7, 741.0)):
        view.ended(_done(number, gpu_s, clock))


def listing() -> Iterator[Item]:
    """Yield the bucket: eight sessions to submit, and those without work."""
    for number in range(8):
        why = STALE if number == 4 else NEW
        yield _item(_session(number), Need.SUBMIT, why, _MINUTES[number])
    for number in range(1204):
        yield _item(Session("ada", f"2026-08-{number}"), Need.DONE, DONE, 30)
    chunks = "17 chunks, no audio.wav yet"
    yield _item(Session("eve", "2026-11-22-0830"), Need.NOT_MERGED, chunks)
    before = "AUDIO_UNREADABLE: no audio in it that can be decoded"
    yield _item(Session("bob", "2026-10-02-1500"), Need.FAILED_BEFORE, before, 3)


def length_of(item: Item) -> Length | None:
    """Tell how long a recording of the listing is."""
    seconds = 0.0 if item.audio is None else item.audio.size_bytes / _WAV_BYTES_PER_MINUTE * 60
    return Length(seconds, LengthSource.HEADER)


def _session(number: int) -> Session:
    return Session(("ada", "bob", "eve")[number % 3], f"2026-11-{14 + number}-0900")


def _item(session: Session, need: Need, why: str, minutes: int = 0) -> Item:
    size_bytes = minutes * _WAV_BYTES_PER_MINUTE
    audio = ObjectInfo(session.audio_key, '"e"', size_bytes, _START) if minutes else None
    return Item(session, need, why, audio)


def _claim(number: int, clock: Clock, earlier: str | None = None) -> Claim:
    job_id = f"{number:04}c1d2-7f1e-4b0a-9d55-2a8f0e6b{number:04}-u1"
    attempts = (Attempt(request_id="r0", job_id="earlier", ended=earlier),) if earlier else ()
    return Claim(
        session=_session(number).prefix,
        request_id=f"r{number}",
        endpoint_id="abc123xyz",
        job_id=job_id,
        audio_etag='"e"',
        audio_bytes=_MINUTES[number] * _WAV_BYTES_PER_MINUTE,
        duration_s=_MINUTES[number] * 60.0,
        submitted_at=clock.now(),
        expires_at=clock.now() + timedelta(hours=4),
        earlier=attempts,
    )


def _done(number: int, gpu_s: float, clock: Clock) -> Record:
    minutes = _MINUTES[number]
    return Record(
        _session(number).prefix,
        "done",
        "Transcription uploaded to S3",
        job_id=_claim(number, clock).job_id,
        submissions=("STORAGE_UNAVAILABLE", "done") if number == 5 else ("done",),
        audio_s=minutes * 60.0,
        gpu_s=gpu_s,
        segments=15 * minutes,
        speakers=2 + number % 2,
        language="en",
        ended_at=clock.now().isoformat(),
    )


def _unreadable(clock: Clock) -> Record:
    return Record(
        _session(3).prefix,
        "failed",
        "no audio in it that can be decoded",
        code="AUDIO_UNREADABLE",
        job_id=_claim(3, clock).job_id,
        submissions=("AUDIO_UNREADABLE",),
        gpu_s=4.2,
        ended_at=clock.now().isoformat(),
    )


WIDTH, HEIGHT = 100, 24
_PRICE = Decimal("0.00031")
_BLOCK = re.compile(r"(<!-- capture: ([a-z-]+) -->\n).*?(<!-- /capture -->)", re.DOTALL)


def live() -> str:
    """Return the terminal in the middle of a batch."""
    clock, out = ScriptedTime(), io.StringIO()
    console = Console(
        file=out,
        width=WIDTH,
        height=HEIGHT,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
    )
    view = LiveView(console, clock)
    first_half(view, clock)
    console.print(view)
    return out.getvalue()


def dry() -> str:
    """Return what a dry run of the same bucket prints."""
    out = io.StringIO()
    show(with_lengths(listing(), length_of), Forecast(price_per_s=_PRICE), as_json=False, out=out)
    return out.getvalue()


def plain() -> str:
    """Return the log of the same batch, to its end."""
    out = io.StringIO()
    _played(lambda clock: PlainView(out, clock))
    return out.getvalue()


def summary() -> str:
    """Return what is printed last."""
    out = io.StringIO()
    view = _played(lambda clock: CountingView(clock, _PRICE))
    print_summary(view.summary(REQUESTS), as_json=False, out=out)
    return out.getvalue()


def json_lines() -> str:
    """Return what a program reads: the failure's line; the others look the same."""
    out = io.StringIO()
    _played(lambda clock: JsonLinesView(out, io.StringIO(), clock))
    return "".join(line for line in out.getvalue().splitlines(True) if '"failed"' in line)


CAPTURES: dict[str, Callable[[], str]] = {
    "dry-run": dry,
    "live": live,
    "plain": plain,
    "summary": summary,
    "json-line": json_lines,
}


def with_captures(guide: str) -> str:
    """Return the guide with its blocks written anew.

    Raises:
        KeyError: A block has a name that is none of `CAPTURES`.
    """

    def block(match: re.Match[str]) -> str:
        lines = CAPTURES[match[2]]().strip("\n").split("\n")
        text = "\n".join(line.rstrip() for line in lines)
        return f"{match[1]}```\n{text}\n```\n{match[3]}"

    return _BLOCK.sub(block, guide)


def _played(view_at: Callable[[Clock], CountingView]) -> CountingView:
    clock = ScriptedTime()
    view = view_at(clock)
    first_half(view, clock)
    second_half(view, clock)
    return view


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_captures(path.read_text(encoding="utf-8")), encoding="utf-8")

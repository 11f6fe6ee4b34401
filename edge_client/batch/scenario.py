"""A batch that never was: what `edge_client.batch.captures` shows, the same each time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from edge_client.batch.assessment import DONE, NEW, STALE
from edge_client.batch.values import BatchView, Item, Need, Record
from edge_client.claim import Attempt, Claim
from edge_client.clock import Clock
from edge_client.follow import Glimpse
from edge_client.layout import Session
from edge_client.recording import Length, LengthSource
from edge_client.storage import ObjectInfo

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
        view.show(_session(number), Glimpse("running", "transcribe", 18.0))
    for number in (3, 4, 5):
        view.show(_session(number), Glimpse("queued"))
    clock.sleep(220)
    view.note("RunPod does not answer (HTTP 502); the jobs go on, trying again")
    view.ended(_done(1, 371.0, clock))
    view.show(_session(0), Glimpse("running", "transcribe", 41.0))
    view.show(_session(2), Glimpse("running", "align", 66.0))
    view.show(_session(3), Glimpse("running", "fetch", 2.0))
    view.submitted(_session(6), _claim(6, clock))
    view.show(_session(6), Glimpse("queued"))


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

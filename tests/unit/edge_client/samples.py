"""Values that many tests start from."""

import hashlib
import io
import json
import threading
import wave
from datetime import UTC, datetime, timedelta
from typing import Any

from edge_client.batch.progress import BatchProgress
from edge_client.batch.types import PlannedAction, PlannedSession, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress
from edge_client.jobs.workqueue import WorkQueue
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import S3Server

SESSION = Session("u1", "s1")
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
SUBMIT = PlannedAction.SUBMIT


class FakeClock(Clock):
    """Time that passes only when somebody sleeps."""

    slept: list[float]

    def __init__(self, at: datetime = NOW) -> None:
        super().__init__(
            now=lambda: at + timedelta(seconds=sum(self.slept)),
            monotonic=lambda: sum(self.slept),
            sleep=lambda seconds: self.slept.append(seconds),
        )
        object.__setattr__(self, "slept", [])


class Recorder(BatchProgress):
    """Remembers what it was to show; a session ends once."""

    def __init__(self) -> None:
        super().__init__(Clock())
        self.records: dict[str, Record] = {}
        self.has_submitted, self.notes = threading.Event(), list[str]()
        self.has_ended = threading.Event()

    def submitted(self, session: Session, claim: Claim) -> None:
        """Tell who waits for it."""
        super().submitted(session, claim)
        self.has_submitted.set()

    def ended(self, record: Record) -> None:
        """Remember."""
        super().ended(record)
        self.has_ended.set()
        assert self.records.setdefault(record.session.rpartition("/")[2], record) is record

    def note(self, message: str) -> None:
        """Remember."""
        self.notes.append(message)

    def results(self) -> dict[str, str]:
        """Return how each session ended so far, by name."""
        return {name: record.result for name, record in self.records.items()}


def wav(seconds: float = 2.0, rate_hz: int = 8000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate_hz)
        file.writeframes(bytes(2 * int(seconds * rate_hz)))
    return out.getvalue()


def transcript(**changes: Any) -> bytes:
    segment = {"id": 0, "start": 0.0, "end": 1.5, "text": "Hello.", "speaker": "SPEAKER_00"}
    doc = {
        "schema_version": 1,
        "segments": [segment | {"words": []}],
        "speakers": ["SPEAKER_00"],
        "language": "en",
        "duration_seconds": 2.0,
        "processing_time_seconds": 0.5,
        "warnings": [],
        "request_id": "r1",
    }
    return json.dumps(doc | changes).encode()


def summary(**changes: Any) -> dict[str, Any]:
    """What a worker answers that stored its transcript, such as `transcript`."""
    body = transcript()
    told: dict[str, Any] = {
        "segments_count": 1,
        "speakers_count": 1,
        "duration_seconds": 2.0,
        "processing_time_seconds": 0.5,
        "result": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()},
        "timings": {},
        "request_id": "r1",
    }
    return told | changes


def claim(**changes: Any) -> Claim:
    values: dict[str, Any] = {
        "session": SESSION.prefix,
        "request_id": "r1",
        "endpoint_id": "ep1",
        "job_id": "job-1",
        "audio_etag": '"e1"',
        "audio_bytes": 100,
        "duration_s": 2.0,
        "submitted_at": NOW,
        "expires_at": NOW + timedelta(hours=2),
        "submitted_by": "box-1",
    }
    return Claim(**(values | changes))


def job(state: str, **more: Any) -> dict[str, Any]:
    return {"id": "job-1", "status": state, **more}


def session(number: int = 1) -> Session:
    return Session("u1", f"s{number}")


def planned(
    which: Session, action: PlannedAction = SUBMIT, size: int = 0, **more: Any
) -> PlannedSession:
    audio = ObjectInfo(which.audio_key, '"e"', size, NOW) if size else None
    return PlannedSession(which, action, "new", audio, **more)


def claim_of(which: Session, clock: Clock, **changes: Any) -> Claim:
    values = {"session": which.prefix, "submitted_at": clock.now(), "duration_s": 3600.0}
    return claim(**(values | changes))


def put_claim(s3: S3Server, session: Session, **changes: object) -> None:
    """Store a claim for the session's recording as it is."""
    etag = s3.objects[session.audio_key].etag
    written = claim(**({"session": session.prefix, "audio_etag": etag} | changes))
    s3.put(session.claim_key, written.model_dump_json().encode())


def record(which: Session, result: str = "done", **changes: Any) -> Record:
    return Record(which.prefix, **({"result": result, "message": "said so"} | changes))


def end(batch: BatchProgress, which: Session, result: str = "done", **facts: Any) -> None:
    """List a session and end it; what is no work by its result was none."""
    is_work = result not in ("not_merged", "no_audio")
    batch.stats.listed(planned(which, SUBMIT if is_work else PlannedAction(result)))
    batch.ended(record(which, result, **facts))


def start(batch: BatchProgress, clock: Clock, count: int, running: int = 0) -> None:
    """Submit ``count`` sessions of an hour; the last ``running`` of them run."""
    for number in range(count):
        batch.stats.listed(planned(session(number), size=32_000 * 3600))
        batch.submitted(session(number), claim_of(session(number), clock))
        state = "running" if number >= count - running else "queued"
        batch.polled(session(number), JobProgress(state))


def step(queue: WorkQueue[Any]) -> float | None:
    """Do the first key's work in this thread, if it is due.

    Return the seconds until the next key is due, None if there is no key.
    """
    if queue._due and queue._due[0][0] <= queue._clock.monotonic():
        key = queue._take()
        if key is not None:
            queue._do(key)
    return max(0.0, queue._due[0][0] - queue._clock.monotonic()) if queue._due else None

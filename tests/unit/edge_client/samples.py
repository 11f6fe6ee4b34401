"""Values that many tests start from."""

import hashlib
import io
import json
import wave
from datetime import UTC, datetime, timedelta
from typing import Any

from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.session import Session

SESSION = Session("u1", "s1")
NOW = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)


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

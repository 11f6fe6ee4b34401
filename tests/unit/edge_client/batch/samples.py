"""Values that the tests of a batch start from."""

from typing import Any

from edge_client.batch.progress import BatchProgress
from edge_client.batch.types import PlannedAction, PlannedSession, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import NOW, claim

SUBMIT = PlannedAction.SUBMIT


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

"""Values that the tests of progress, results and report start from."""

import io
from decimal import Decimal
from typing import Any

from edge_client.batch.progress import BatchProgress, Writer
from edge_client.batch.results import BatchStats
from edge_client.batch.types import PlannedAction, PlannedSession, Record
from edge_client.clock import Clock
from edge_client.jobs.claim import Claim
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session
from tests.fakes.servers import S3Server
from tests.unit.edge_client.samples import NOW, claim

PRICE = Decimal("0.0005")
NASTY = "[bold]\x1b[2J\x9b31m\u202e\nname"
NASTY_SEEN = r"[bold]\x1b[2J\x9b31m\u202e\nname"


def session(number: int = 1, user: str = "u1") -> Session:
    return Session(user, f"s{number}")


def planned(
    which: Session,
    action: PlannedAction = PlannedAction.SUBMIT,
    why: str = "new",
    size: int = 0,
) -> PlannedSession:
    audio = ObjectInfo(which.audio_key, '"e"', size, NOW) if size else None
    return PlannedSession(which, action, why, audio)


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


def silent(clock: Clock, price: Decimal | None = PRICE, **more: Any) -> BatchProgress:
    """Counts, and shows nothing."""
    return BatchProgress(BatchStats(clock), Writer(), clock, price, **more)


class Terminal(io.TextIOWrapper):
    """A terminal that fails on what its encoding lacks, and knows what was written."""

    def __init__(self, encoding: str = "utf-8") -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")

    def isatty(self) -> bool:
        """Tell that it is one."""
        return True

    @property
    def text(self) -> str:
        """Everything so far."""
        self.flush()
        assert isinstance(self.buffer, io.BytesIO)
        return self.buffer.getvalue().decode(self.encoding)

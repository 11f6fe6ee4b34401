"""A small bucket with a session of every kind, and its dry run.

``python -m tests.unit.edge_client.batch.sample_bucket`` prints what `dry_run.txt` has to hold.
"""

import contextlib
import io
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from edge_client.batch.dry_run import dry_run
from edge_client.batch.listing import Scope
from edge_client.batch.plan import Wishes
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import Settings
from tests.unit.edge_client.samples import NOW, FakeClock, claim, transcript, wav
from tests.unit.edge_client.servers import BUCKET, S3Server

GOLDEN = Path(__file__).with_name("dry_run.txt")
BEFORE, AFTER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)


def fill(s3: S3Server) -> None:
    """Make the bucket."""
    recorded(s3, "ada", "new", seconds=90)
    recorded(s3, "ada", "ümläute + 100% (1)", seconds=30)
    recorded(s3, "ada", "escape \x1b[31m", seconds=1)
    done = recorded(s3, "ada", "done", seconds=2)
    s3.put(done.result_key, transcript(), AFTER)
    stale = recorded(s3, "bob", "replaced", seconds=60)
    s3.put(stale.result_key, transcript(), BEFORE)
    empty = recorded(s3, "bob", "transcript-empty", seconds=2)
    s3.put(empty.result_key, b"", AFTER)
    claimed(s3, recorded(s3, "bob", "out", seconds=4), duration_s=600.0)
    claimed(s3, recorded(s3, "bob", "unanswered", seconds=4), job_id=None)
    claimed(s3, recorded(s3, "bob", "elsewhere", seconds=4), endpoint_id="ep2")
    claimed(s3, recorded(s3, "bob", "failed", seconds=4), ended="AUDIO_UNREADABLE: no audio")
    claimed(s3, recorded(s3, "bob", "away", seconds=4), ended="STORAGE_UNAVAILABLE: S3 away")
    claimed(s3, recorded(s3, "bob", "over", seconds=4), submitted_at=BEFORE, expires_at=BEFORE)
    for number in range(17):
        s3.put(f"{Session('eve', 'chunks').prefix}/chunk-{number:03}.webm", b"c")
    s3.put(f"{Session('eve', 'metadata-only').prefix}/metadata.json", b"{}")
    s3.put(Session("eve", "empty").audio_key, b"")
    s3.put(Session("eve", "no-wav").audio_key, b"OggS" * 1000)


def recorded(s3: S3Server, user: str, name: str, seconds: float) -> Session:
    """Put a recording."""
    session = Session(user, name)
    s3.put(session.audio_key, wav(seconds))
    return session


def claimed(s3: S3Server, session: Session, **changes: Any) -> None:
    """Put a claim of that recording."""
    etag = s3.objects[session.audio_key].etag
    stored = claim(**({"session": session.prefix, "audio_etag": etag} | changes))
    s3.put(session.claim_key, stored.model_dump_json().encode())


def printed(edge: Edge, wishes: Wishes | None = None, *, as_json: bool = False) -> str:
    """Return what a dry run prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        dry_run(edge, Scope(), wishes or Wishes(), as_json)
    return out.getvalue()


def lines(edge: Edge, wishes: Wishes | None = None) -> list[dict[str, Any]]:
    """Return what a dry run prints for programs."""
    return [json.loads(line) for line in printed(edge, wishes, as_json=True).splitlines()]


def golden() -> str:
    """Return the whole text, from a server of its own."""
    with S3Server() as s3:
        fill(s3)
        settings = Settings(
            COGNITO_S3_BUCKET=BUCKET,
            AWS_REGION="eu-west-1",
            AWS_ENDPOINT_URL_S3=s3.url,
            AWS_ACCESS_KEY_ID="AKTESTTESTTEST",
            AWS_SECRET_ACCESS_KEY="secretsecretsecret",
            RUNPOD_ENDPOINT_ID="ep1",
        )
        return printed(Edge(settings, FakeClock()))


if __name__ == "__main__":
    sys.stdout.write(golden())

"""What every command works with: settings, clock, and the two services, made when first used."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from edge_client.clock import Clock
from edge_client.errors import BadUsage, SessionAmbiguous, SessionNotFound
from edge_client.services.runpod import RunpodApi
from edge_client.services.s3 import Bucket, Connection, connect
from edge_client.session import USER, Session
from edge_client.settings import QUEUE, STORAGE, Settings, load

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)
_LOOKUPS_AT_ONCE = 8


class Edge:
    """One edge box's view of its bucket and its endpoint."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.requests = Counter[str]()

    @classmethod
    def load(
        cls, env_file: Path | None = None, *, storage: bool = True, queue: bool = True
    ) -> Edge:
        """Read the settings; raises `NotConfigured` naming all that the command needs and lacks."""
        edge = cls(load(env_file))
        edge.settings.require(*(STORAGE if storage else ()), *(QUEUE if queue else ()))
        return edge

    @cached_property
    def connection(self) -> Connection:
        """The S3 client with what is known of its keys."""
        connection, said = connect(self.settings), self.settings.region
        _count_requests(connection.client, self.requests)
        region = connection.bucket_region(self.settings.recordings.begins())
        if region in (None, said):
            return connection
        log.warning("the bucket is in %s, not AWS_REGION=%s: URLs are signed for it", region, said)
        connection = connect(self.settings.model_copy(update={"region": region}))
        _count_requests(connection.client, self.requests)
        return connection

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket of the recordings."""
        bucket = Bucket(self.connection.client, self.connection.bucket, self.settings.put_headers)
        bucket.recordings = self.settings.recordings
        return bucket

    @cached_property
    def api(self) -> RunpodApi:
        """The endpoint."""
        settings = self.settings
        settings.require(*QUEUE)
        url, verify = settings.runpod_url, settings.ca_bundle
        endpoint_id, key = settings.endpoint_id or "", settings.api_key or SecretStr("")
        return RunpodApi(url, endpoint_id, key, self.clock, self.requests, verify)

    def session(self, text: Session | str) -> Session:
        """Turn what the user typed for SESSION into a session.

        A prefix is taken as it is, and so is ``s3://BUCKET/KEY``, with no call; a bare name costs
        a LIST of the users and one small LIST a user.

        Raises:
            BadUsage: Neither of these, or it is in another bucket.
            SessionNotFound: No user has it.
            SessionAmbiguous: Several have.
        """
        if isinstance(text, Session):
            return text
        recordings, name = self.settings.recordings, text.strip("/")
        if text.startswith("s3://"):
            bucket = self.settings.bucket
            if not text.startswith(f"s3://{bucket}/"):
                raise BadUsage(f"{text} is not in the bucket {bucket}: see COGNITO_S3_BUCKET")
            session = recordings.match(text.removeprefix(f"s3://{bucket}/"))
            if session is None:
                pattern = f"RECORDING_PATTERN ({recordings.text})"
                raise BadUsage(f"{text} is no recording by {pattern}: set that")
            return session
        if "/" in name or not name or recordings.match(text) is not None:
            return recordings.parse(text)
        placed = (recordings.place(user, name) for user in self.users())
        sessions = [session for session in placed if session is not None]
        with ThreadPoolExecutor(_LOOKUPS_AT_ONCE) as pool:
            is_there = pool.map(lambda session: self.bucket.has_any(session.beside), sessions)
            found = [session for session, there in zip(sessions, is_there, strict=True) if there]
        if not found:
            remedy = "check its name, or the file's, COGNITO_S3_BUCKET and RECORDING_PATTERN"
            raise SessionNotFound(f"no user has a session {name!r}: {remedy}")
        if len(found) > 1:
            listed = ", ".join(map(str, found[:5])) + (", …" if len(found) > 5 else "")
            text = f"{len(found)} users have a session {name!r}: give one in full: {listed}"
            raise SessionAmbiguous(text)
        return found[0]

    def users(self) -> Iterator[str]:
        """Yield the users, as folders have them; of a pattern without users the one it has."""
        recordings = self.settings.recordings
        head = recordings.begins()
        if USER in recordings.text:
            yield from (each[len(head) : -1] for each in self.bucket.folders(head))
        else:
            yield ""


def _count_requests(client: S3Client, made: Counter[str]) -> None:
    """Count in ``made`` what a client sends from now on, by operation; log it; retries, too."""
    lock = threading.Lock()

    def sent(event_name: str, request: AWSPreparedRequest, **_: Any) -> None:
        log.info("S3: %s %s", request.method, (request.url or "").partition("?")[0])
        with lock:
            made[event_name.rpartition(".")[2]] += 1

    def answered(event_name: str, parsed_response: Any, exception: Any, **_: Any) -> None:
        said = parsed_response or {"Error": {"Code": type(exception).__name__}}
        if "Error" in said:
            log.info("S3: %s: %s", event_name.rpartition(".")[2], said["Error"].get("Code"))

    client.meta.events.register("before-send.s3", sent)
    client.meta.events.register("response-received.s3", answered)

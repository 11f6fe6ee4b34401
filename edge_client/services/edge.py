"""What every command works with: settings, clock, and the two services, made when first used."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import SecretStr

from edge_client.clock import Clock
from edge_client.services.runpod import IdleMonitor, RequestCounter, RunpodApi
from edge_client.services.s3 import Bucket, Connection, connect
from edge_client.session import Session, resolve
from edge_client.settings import QUEUE, STORAGE, Settings, load


class Edge:
    """One edge box's view of its bucket and its endpoint."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.requests = RequestCounter()

    @classmethod
    def load(
        cls, env_file: Path | None = None, *, storage: bool = True, queue: bool = True
    ) -> Edge:
        """Read the settings and check that what a command needs is there.

        Args:
            env_file: Instead of ``.env``.
            storage: The command needs the bucket.
            queue: The command needs RunPod.

        Raises:
            NotConfigured: Naming everything that is missing, at once.
        """
        edge = cls(load(env_file))
        edge.settings.require(*(STORAGE if storage else ()), *(QUEUE if queue else ()))
        return edge

    @cached_property
    def connection(self) -> Connection:
        """The S3 client with what is known of its keys."""
        connection = connect(self.settings)
        self.requests.watch(connection.client)
        return connection

    @cached_property
    def bucket(self) -> Bucket:
        """The bucket of the recordings."""
        return Bucket(self.connection.client, self.connection.bucket)

    @cached_property
    def api(self) -> RunpodApi:
        """The endpoint."""
        self.settings.require(*QUEUE)
        endpoint_id, key = self.settings.endpoint_id or "", self.settings.api_key or SecretStr("")
        url = self.settings.runpod_url
        return RunpodApi(url, endpoint_id, key, self.clock, self.requests)

    @cached_property
    def idle(self) -> IdleMonitor:
        """Since when the endpoint has had no job."""
        return IdleMonitor(self.api, self.clock)

    def session(self, text: Session | str) -> Session:
        """Resolve what the user typed for SESSION."""
        return text if isinstance(text, Session) else resolve(text, self.bucket)

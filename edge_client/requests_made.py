"""Counts the requests that this box makes, by kind: what a run costs beside GPU time."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Requests:
    """Counters that many threads share. Retries count: they are requests, too."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._made: Counter[str] = Counter()

    def count(self, kind: str) -> None:
        """Count one request."""
        with self._turn:
            self._made[kind] += 1

    def made(self) -> dict[str, int]:
        """Return how many of each kind there were, most first."""
        with self._turn:
            return dict(self._made.most_common())

    def watch(self, client: S3Client) -> None:
        """Count what a boto3 client sends, by operation."""
        client.meta.events.register("before-send.s3", self._sent)

    def _sent(self, event_name: str, **_: Any) -> None:
        self.count(event_name.rpartition(".")[2])

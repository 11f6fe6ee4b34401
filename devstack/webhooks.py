"""Tells a job's webhook that it ended: POST, wants 200, two more tries 10 s apart."""

from __future__ import annotations

import asyncio
from typing import Any

import requests

from devstack.events import Event, EventKind
from devstack.jobs import JobNotFound, JobQueue

_ENDED = {EventKind.COMPLETED, EventKind.FAILED, EventKind.CANCELLED, EventKind.TIMED_OUT}


class Webhooks:
    """Delivers the webhooks of one queue, as tasks of the running event loop."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._tasks: set[asyncio.Task[None]] = set()

    def on_event(self, event: Event) -> None:
        """Start a delivery if the event ends a job."""
        if event.kind in _ENDED and event.job_id is not None:
            task = asyncio.get_running_loop().create_task(self._deliver(event.job_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def stop(self) -> None:
        """Give up deliveries that wait for their next try."""
        for task in self._tasks:
            task.cancel()

    async def _deliver(self, job_id: str) -> None:
        try:
            job = self._queue.find(job_id)
        except JobNotFound:
            return
        if job.submission.webhook is None:
            return
        document, rules = job.to_wire(), self._queue.rules
        for attempt in range(1 + rules.webhook_retries):
            if attempt:
                await asyncio.sleep(rules.webhook_interval_s)
            if await asyncio.to_thread(
                _post, job.submission.webhook, document, rules.webhook_timeout_s
            ):
                self._queue.events.append(EventKind.WEBHOOK_DELIVERED, job_id)
                return
            self._queue.events.append(EventKind.WEBHOOK_REFUSED, job_id)


def _post(url: str, document: dict[str, Any], timeout_s: float) -> bool:
    """Return whether the receiver answered 200."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.post(url, json=document, timeout=timeout_s, allow_redirects=False)
        except requests.RequestException:
            return False
        return answer.status_code == 200

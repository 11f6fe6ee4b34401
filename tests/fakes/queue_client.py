"""A small client of the devstack's queue, and a clock to set."""

from __future__ import annotations

import json
from typing import Any

import requests

from devstack.api import QueueServer
from devstack.events import EventKind

API_KEY = "rpa_test"
ENDPOINT_ID = "endpoint"


class FakeClock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self.now_s += seconds


class QueueClient:
    """Speaks both sides of the protocol to a queue server."""

    def __init__(self, server: QueueServer) -> None:
        self.server = server
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.headers["Authorization"] = f"Bearer {API_KEY}"

    def call(self, verb: str, path: str, **options: Any) -> requests.Response:
        """Send a request to the endpoint."""
        return self.session.request(
            verb, f"{self.server.endpoint_url}/{path}", **{"timeout": 30, **options}
        )

    def run(self, job_input: dict[str, Any] | None = None, **fields: Any) -> str:
        """Submit a job and return its id."""
        answer = self.call("POST", "run", json={"input": job_input or {}, **fields})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    def status(self, job_id: str) -> dict[str, Any]:
        """Return what /status answers."""
        answer = self.call("GET", f"status/{job_id}")
        return {"status": answer.status_code} if answer.status_code != 200 else answer.json()

    def take(self, worker_id: str = "w") -> dict[str, Any] | None:
        """Take a job as a worker does."""
        answer = self.call("GET", f"job-take/{worker_id}?gpu=none&job_in_progress=0")
        return answer.json() if answer.status_code == 200 else None

    def done(self, job_id: str, body: Any, worker_id: str = "w") -> requests.Response:
        """Post a result, as form data like the SDK does."""
        data = body if isinstance(body, bytes) else json.dumps(body)
        return self.call("POST", f"job-done/{worker_id}/{job_id}?gpu=none", data=data)

    def kinds(self, job_id: str) -> list[EventKind]:
        """Return what happened to a job, in order."""
        return [event.kind for event in self.server.events.so_far() if event.job_id == job_id]

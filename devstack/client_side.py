"""The side of the queue that clients speak: /run, /runsync, /status, /cancel and so on."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from contract import ExecutionPolicy
from devstack.jobs import JobQueue
from devstack.polling import Changes, InvalidBody, read_json
from devstack.record import JobRecord, Submission
from devstack.traffic import Traffic

Handler = Callable[[Request], Awaitable[Response]]


class ClientSide:
    """Routes for clients; every one wants `Authorization: Bearer KEY`."""

    def __init__(self, queue: JobQueue, changes: Changes, traffic: Traffic, api_key: str) -> None:
        self._queue = queue
        self._changes = changes
        self._traffic = traffic
        self._expected = f"Bearer {api_key}"

    def routes(self) -> list[Route]:
        """Return the routes, relative to the endpoint."""
        table: list[tuple[str, str, Handler]] = [
            ("POST", "/run", self.run),
            ("POST", "/runsync", self.runsync),
            ("GET", "/status/{job_id}", self.status),
            ("GET", "/status-sync/{job_id}", self.status_sync),
            ("POST", "/cancel/{job_id}", self.cancel),
            ("POST", "/retry/{job_id}", self.retry),
            ("POST", "/purge-queue", self.purge),
            ("GET", "/health", self.health),
            ("GET", "/_events", self.events),
            ("GET", "/_traffic", self.traffic),
        ]
        return [
            Route(path, self._guard(path.split("/")[1], handler), methods=[verb])
            for verb, path, handler in table
        ]

    def _guard(self, kind: str, handler: Handler) -> Handler:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("Authorization", "")
            if not secrets.compare_digest(given.encode(), self._expected.encode()):
                return JSONResponse({"error": "Unauthorized: send the API key"}, 401)
            with self._traffic.admit(kind, request.client):
                return await handler(request)

        return guarded

    async def run(self, request: Request) -> Response:
        """Queue a job and answer at once."""
        body = await read_json(request, self._queue.rules.max_run_bytes)
        job = self._queue.submit(parse_submission(body, is_sync=False))
        return JSONResponse({"id": job.job_id, "status": job.state.value})

    async def runsync(self, request: Request) -> Response:
        """Queue a job and answer when it ended, or with its state after a while."""
        body = await read_json(request, self._queue.rules.max_runsync_bytes)
        job = self._queue.submit(parse_submission(body, is_sync=True))
        return await self._when_ended(request, job)

    async def status(self, request: Request) -> Response:
        """Show a job."""
        return _show(self._named(request))

    async def status_sync(self, request: Request) -> Response:
        """Show a job when it ended, or after a while."""
        return await self._when_ended(request, self._named(request))

    async def cancel(self, request: Request) -> Response:
        """Cancel a job; one that ended keeps its state."""
        job = self._queue.cancel(request.path_params["job_id"])
        return JSONResponse({"id": job.job_id, "status": job.state.value})

    async def retry(self, request: Request) -> Response:
        """Queue a failed job again."""
        job = self._queue.retry(request.path_params["job_id"])
        return JSONResponse({"id": job.job_id, "status": job.state.value})

    async def purge(self, request: Request) -> Response:
        """Drop all waiting jobs."""
        return JSONResponse({"removed": self._queue.purge(), "status": "completed"})

    async def health(self, request: Request) -> Response:
        """Count jobs and workers."""
        return JSONResponse(self._queue.health())

    async def events(self, request: Request) -> Response:
        """Show the log, from `?since=SEQ` on. Not RunPod's: for tests and people."""
        since = request.query_params.get("since", "0")
        if not since.isdecimal():
            raise InvalidBody("since must be a whole number")
        return JSONResponse([event.to_wire() for event in self._queue.events.since(int(since))])

    async def traffic(self, request: Request) -> Response:
        """Show the counts of requests and connections. Not RunPod's, as the log."""
        return JSONResponse(self._traffic.report())

    def _named(self, request: Request) -> JobRecord:
        return self._queue.find(request.path_params["job_id"])

    async def _when_ended(self, request: Request, job: JobRecord) -> Response:
        wait_s = self._queue.rules.sync_wait_s
        await self._changes.poll(request, lambda: job.state.is_final, wait_s)
        return _show(self._queue.find(job.job_id))


def _show(job: JobRecord) -> Response:
    return JSONResponse(job.to_wire())


def parse_submission(body: dict[str, Any], *, is_sync: bool) -> Submission:
    """Check the body of /run as RunPod does; what `input` holds is the worker's business.

    Raises:
        InvalidBody: `input`, `policy` or `webhook` is wrong; the message names the field.
    """
    job_input, webhook = body.get("input"), body.get("webhook")
    if not isinstance(job_input, dict):
        raise InvalidBody("input: a JSON object is required")
    if webhook is not None and not _is_http_url(webhook):
        raise InvalidBody("webhook: an http or https URL is required")
    return Submission(job_input, _parse_policy(body.get("policy")), webhook, is_sync)


def _is_http_url(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://"))


def _parse_policy(given: object) -> ExecutionPolicy:
    try:
        return ExecutionPolicy.model_validate({} if given is None else given)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = ".".join(["policy", *map(str, first["loc"])])
        raise InvalidBody(f"{name}: {first['msg']}") from exc

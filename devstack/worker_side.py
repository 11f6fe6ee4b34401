"""The side of the queue that the SDK's worker loop speaks: job-take, job-done, ping.

Source: runpod 1.12.0, `serverless/modules/rp_job.py`, `rp_http.py`, `rp_ping.py`. The
loopback server trusts its workers: the SDK may send a key of its own from
`~/.runpod/config.toml`, so none is checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from devstack.events import EventKind
from devstack.jobs import JobQueue
from devstack.polling import HURRIED_POLL_S, Changes, InvalidBody, PayloadTooLarge, read_json
from devstack.record import JobRecord

T = TypeVar("T")


class WorkerSide:
    """Routes for workers."""

    def __init__(self, queue: JobQueue, changes: Changes) -> None:
        self._queue = queue
        self._changes = changes

    def routes(self) -> list[Route]:
        """Return the routes, relative to the endpoint."""
        return [
            Route("/job-take/{worker_id}", self.take),
            Route("/job-take-batch/{worker_id}", self.take_batch),
            Route("/job-stop/{worker_id}", self.stop),
            Route("/job-done/{worker_id}/{job_id}", self.done, methods=["POST"]),
            Route("/job-stream/{worker_id}/{job_id}", self.stream, methods=["POST"]),
            Route("/ping/{worker_id}", self.ping),
        ]

    async def take(self, request: Request) -> Response:
        """Hand over one job, as soon as there is one."""
        jobs = await self._take(request, 1)
        return JSONResponse(_handed(jobs[0])) if jobs else Response(status_code=204)

    async def take_batch(self, request: Request) -> Response:
        """Hand over up to `batch_size` jobs, as soon as there is one."""
        size = request.query_params.get("batch_size", "1")
        if not size.isdecimal():
            raise InvalidBody("batch_size must be a whole number")
        jobs = await self._take(request, int(size))
        return JSONResponse([_handed(job) for job in jobs]) if jobs else Response(status_code=204)

    async def _take(self, request: Request, count: int) -> list[JobRecord]:
        worker_id = request.path_params["worker_id"]
        return await self._poll(request, lambda: self._queue.take(worker_id, count)) or []

    async def stop(self, request: Request) -> Response:
        """Name the jobs that the worker should stop, as soon as there are any."""
        worker_id = request.path_params["worker_id"]
        job_ids = await self._poll(request, lambda: self._queue.collect_stops(worker_id))
        return JSONResponse({"jobsToStop": job_ids}) if job_ids else Response(status_code=204)

    async def _poll(self, request: Request, attempt: Callable[[], T]) -> T | None:
        """Hold the request open, but not for a worker that is to leave."""
        is_retired = self._queue.is_retired(request.path_params["worker_id"])
        hold_s = HURRIED_POLL_S if is_retired else self._queue.rules.take_poll_s
        return await self._changes.poll(request, attempt, hold_s)

    async def done(self, request: Request) -> Response:
        """Take a result, or progress: the SDK posts both here."""
        worker_id, job_id = request.path_params["worker_id"], request.path_params["job_id"]
        try:
            body = await read_json(request, self._queue.rules.max_result_bytes)
        except (InvalidBody, PayloadTooLarge) as exc:
            self._queue.events.append(EventKind.REFUSED_RESULT, job_id, worker_id, str(exc))
            raise
        if body.get("status") == "IN_PROGRESS":
            self._queue.progress(worker_id, job_id, body.get("output"))
            return Response()
        self._queue.finish(worker_id, job_id, body.get("output"), body.get("error"))
        if body.get("stopPod"):
            self._queue.retire(worker_id)
        return Response()

    async def stream(self, request: Request) -> Response:
        """Take a part of a generator's output; it shows as progress."""
        body = await read_json(request, self._queue.rules.max_result_bytes)
        worker_id, job_id = request.path_params["worker_id"], request.path_params["job_id"]
        self._queue.progress(worker_id, job_id, body.get("output"))
        return Response()

    async def ping(self, request: Request) -> Response:
        """Note that the worker lives."""
        self._queue.ping(request.path_params["worker_id"])
        return Response()


def _handed(job: JobRecord) -> dict[str, object]:
    return {"id": job.job_id, "input": job.submission.input}

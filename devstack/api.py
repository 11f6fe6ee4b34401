"""Serve the queue over HTTP, to clients (/run, /status …) and to the SDK's worker loop.

`QueueServer` listens on a free loopback port, in a thread of this process. Clients get 401 without
the key, 413 and 400 for bodies that RunPod refuses, and webhooks when jobs end; RunPod's rate
limits are not kept. Workers are trusted: the SDK may send a key of its own. After runpod 1.12.0:
`rp_job`, `rp_http`, `rp_ping`.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any, Self, TypeVar

import requests
import uvicorn
from pydantic import ValidationError
from pydantic_core import from_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from devstack.events import Event, EventKind
from devstack.queue import FINAL_EVENTS, Job, JobNotFound, JobQueue, QueueConfig, Submission

T = TypeVar("T")
Handler = Callable[[Request], Awaitable[Response]]
HURRIED_POLL_S = 0.5
TICK_S = 0.1
WEBHOOK_TRIES = 3
WEBHOOK_TIMEOUT_S = 5.0
MIN_WAIT_MS, MAX_WAIT_MS = 1000, 300_000


class Changes:
    """Wake the requests that are held open until the queue changes."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_closing = self.is_paused = False

    def notify(self) -> None:
        """Wake all requests that wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def poll(self, request: Request, attempt: Callable[[], T], timeout_s: float) -> T | None:
        """Repeat `attempt` after each change until it returns something true.

        A client that has gone gets no attempt: a job handed to a closed connection would be
        lost until its worker falls silent. Nor does anybody while polls are paused. While the
        server closes, polls end early so that workers can leave.
        """
        deadline_s = asyncio.get_running_loop().time() + timeout_s
        while not await request.is_disconnected():
            if not self.is_paused and (result := attempt()):
                return result
            left_s = deadline_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            if self.is_closing:
                await asyncio.sleep(min(left_s, HURRIED_POLL_S))
                break
            with suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), left_s)
        return None


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the body, a JSON object; an oversized one is read to its end and dropped.

    Raises:
        HTTPException: 413 for more than `max_bytes`; 400 for no JSON object, or one with NaN or
            lone surrogates, which JSON lacks.
    """
    size, chunks = 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
    if size > max_bytes:
        raise HTTPException(413, f"the body has {size} bytes, the limit is {max_bytes}")
    try:
        value = from_json(b"".join(chunks), allow_inf_nan=False)
    except ValueError as exc:
        raise HTTPException(400, "the body is not valid JSON") from exc
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return value


class QueueApi:
    """HTTP in front of one queue, which it calls in the app's event loop only."""

    def __init__(self, queue: JobQueue, api_key: str) -> None:
        self._queue = queue
        self._expected = api_key.encode()
        self._tasks: set[asyncio.Task[None]] = set()
        self.changes = Changes()

    def app(self, endpoint_id: str) -> Starlette:
        """Return the app, with all routes under `/v2/{endpoint_id}`."""
        self._queue.events.listen(self._on_event)
        return Starlette(
            routes=[Mount(f"/v2/{endpoint_id}", routes=self._routes())],
            exception_handlers={
                HTTPException: lambda _, exc: _error(exc.status_code, exc.detail),
                JobNotFound: lambda _, exc: _error(404, "job not found"),
            },
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Let time pass; at the end give up webhooks that wait for their next try."""
        self._start(self._tick())
        yield
        for task in self._tasks:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _tick(self) -> None:
        while True:
            self._queue.tick()
            await asyncio.sleep(TICK_S)

    def _on_event(self, event: Event) -> None:
        self.changes.notify()
        if event.kind in FINAL_EVENTS.values() and event.job_id is not None:
            self._start(self._deliver(event.job_id))

    def _routes(self) -> list[Route]:
        """Return what RunPod offers clients and its SDK, but /stream, /retry and /purge-queue."""
        return [
            self._guarded("/run", self._run, "POST"),
            self._guarded("/runsync", self._runsync, "POST"),
            self._guarded("/status/{job_id}", self._status),
            self._guarded("/status-sync/{job_id}", self._status_sync),
            self._guarded("/cancel/{job_id}", self._cancel, "POST"),
            self._guarded("/health", self._health),
            Route("/job-take/{worker_id}", self._take),
            Route("/job-take-batch/{worker_id}", self._take),
            Route("/job-stop/{worker_id}", self._stop),
            Route("/job-done/{worker_id}/{job_id}", self._done, methods=["POST"]),
            Route("/ping/{worker_id}", self._ping),
        ]

    def _guarded(self, path: str, handler: Handler, verb: str = "GET") -> Route:
        """Return a route that wants the key."""

        async def guarded(request: Request) -> Response:
            given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
            if not secrets.compare_digest(given, self._expected):
                raise HTTPException(401, "Unauthorized: send the API key")
            return await self.answer(request, handler)

        return Route(path, guarded, methods=[verb])

    async def answer(self, request: Request, handler: Handler) -> Response:
        """Answer a client; a test may put something that fails in its place."""
        return await handler(request)

    async def _submit(self, request: Request) -> Job:
        """Check the body as RunPod does; what `input` holds is the worker's business."""
        body = await read_json(request, self._queue.config.max_run_bytes)
        try:
            asked = Submission.model_validate({k: v for k, v in body.items() if v is not None})
        except ValidationError as exc:
            first = exc.errors(include_url=False, include_input=False)[0]
            raise HTTPException(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from exc
        return self._queue.submit(asked)

    async def _run(self, request: Request) -> Response:
        return _show_state(await self._submit(request))

    async def _runsync(self, request: Request) -> Response:
        return await self._when_ended(request, (await self._submit(request)).job_id)

    async def _status(self, request: Request) -> Response:
        return JSONResponse(self._queue.find(request.path_params["job_id"]).to_wire())

    async def _status_sync(self, request: Request) -> Response:
        return await self._when_ended(request, request.path_params["job_id"])

    async def _when_ended(self, request: Request, job_id: str) -> Response:
        """Show a job when it ended, or after a while."""
        job = self._queue.find(job_id)
        wait_s = self._queue.config.sync_wait_s
        with suppress(KeyError, ValueError):
            wait_s = min(MAX_WAIT_MS, max(MIN_WAIT_MS, int(request.query_params["wait"]))) / 1000
        await self.changes.poll(request, lambda: job.state.is_final, wait_s)
        return JSONResponse(self._queue.find(job_id).to_wire())

    async def _cancel(self, request: Request) -> Response:
        return _show_state(self._queue.cancel(request.path_params["job_id"]))

    async def _health(self, _: Request) -> Response:
        return JSONResponse(self._queue.health())

    async def _take(self, request: Request) -> Response:
        """Hand a job over, or a batch of them as a list."""
        worker_id, count = request.path_params["worker_id"], "1"
        if is_batch := "/job-take-batch/" in request.url.path:
            count = request.query_params.get("batch_size", "1")
        if not count.isdecimal():
            raise HTTPException(400, "batch_size must be a whole number")
        taken = await self._poll(request, lambda: self._queue.take(worker_id, int(count))) or []
        jobs = [{"id": job.job_id, "input": job.submission.input} for job in taken]
        if not jobs:
            return Response(status_code=204)
        return JSONResponse(jobs if is_batch else jobs[0])

    async def _stop(self, request: Request) -> Response:
        worker_id = request.path_params["worker_id"]
        job_ids = await self._poll(request, lambda: self._queue.collect_stops(worker_id))
        return JSONResponse({"jobsToStop": job_ids}) if job_ids else Response(status_code=204)

    async def _poll(self, request: Request, attempt: Callable[[], T]) -> T | None:
        """Hold the request open, but not for a worker that is to leave."""
        is_retired = self._queue.is_retired(request.path_params["worker_id"])
        hold_s = HURRIED_POLL_S if is_retired else self._queue.config.take_poll_s
        return await self.changes.poll(request, attempt, hold_s)

    async def _done(self, request: Request) -> Response:
        """Take a result, or progress: the SDK posts both here."""
        worker_id, job_id = request.path_params["worker_id"], request.path_params["job_id"]
        try:
            body = await read_json(request, self._queue.config.max_result_bytes)
        except HTTPException as exc:
            self._queue.events.append(EventKind.REFUSED_RESULT, job_id, worker_id, exc.detail)
            raise
        if body.get("status") == "IN_PROGRESS":
            self._queue.progress(worker_id, job_id, body.get("output"))
            return Response()
        self._queue.finish(worker_id, job_id, body.get("output"), body.get("error"))
        if body.get("stopPod"):
            self._queue.retire(worker_id)
        return Response()

    async def _ping(self, request: Request) -> Response:
        is_healthy = request.query_params.get("status") != "unhealthy"
        self._queue.ping(request.path_params["worker_id"], is_healthy=is_healthy)
        return Response()

    async def _deliver(self, job_id: str) -> None:
        job = self._queue.find(job_id)
        if job.submission.webhook is None:
            return
        document = job.to_wire()
        for attempt in range(WEBHOOK_TRIES):
            if attempt:
                await asyncio.sleep(self._queue.config.webhook_interval_s)
            if await asyncio.to_thread(_post, job.submission.webhook, document):
                self._queue.events.append(EventKind.WEBHOOK_DELIVERED, job_id)
                return
            self._queue.events.append(EventKind.WEBHOOK_REFUSED, job_id)


def _show_state(job: Job) -> Response:
    return JSONResponse({"id": job.job_id, "status": job.state.value})


def _post(url: str, document: dict[str, Any]) -> bool:
    """Return whether the receiver answered 200."""
    with requests.Session() as session:
        session.trust_env = False
        try:
            answer = session.post(
                url, json=document, timeout=WEBHOOK_TIMEOUT_S, allow_redirects=False
            )
        except requests.RequestException:
            return False
        return answer.status_code == 200


def _error(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)


class QueueServer:
    """RunPod's queue for one endpoint."""

    def __init__(
        self,
        endpoint_id: str,
        api_key: str,
        config: QueueConfig | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.endpoint_id = endpoint_id
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket = _listen(0)
        self._port: int = self._socket.getsockname()[1]
        queue = JobQueue(config, clock)
        self.events = queue.events
        self.api = QueueApi(queue, api_key)
        self._changes = self.api.changes
        self._app = self.api.app(endpoint_id)
        self._server: uvicorn.Server
        self._thread: threading.Thread

    @property
    def base_url(self) -> str:
        """What clients call RUNPOD_ENDPOINT_BASE_URL."""
        return f"http://127.0.0.1:{self._port}/v2"

    @property
    def endpoint_url(self) -> str:
        """Where this endpoint's routes are."""
        return f"{self.base_url}/{self.endpoint_id}"

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release_polls()
        self._stop()

    def release_polls(self) -> None:
        """End the requests that are held open, so that workers can leave."""
        self._changes.is_closing = True
        self._call(self._changes.notify)

    def _start(self) -> None:
        config = uvicorn.Config(
            self._app,
            access_log=False,
            log_config=None,
            ws="none",
            timeout_keep_alive=75,
            timeout_graceful_shutdown=2,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve()), name="queue", daemon=True
        )
        self._thread.start()

    def _stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()
        self._loop = None

    def _call(self, callback: Callable[[], None]) -> None:
        """Call back in the server's own thread, if it runs."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(callback)

    async def _serve(self) -> None:
        self._changes.notify()  # requests wait in this loop from now on
        self._loop = asyncio.get_running_loop()
        await self._server.serve(sockets=[self._socket])


def _listen(port: int) -> socket.socket:
    """Return a listening socket that names its protocol.

    Without it asyncio leaves TCP_NODELAY off, and every answer takes 40 ms.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(1024)
    return listener

"""Serve the queue over HTTP, to clients (/run, /status …) and to the SDK's worker loop.

`create_app` returns both sides under `/v2/{endpoint}`. Clients get 429 over a rate limit, 413 and
400 for bodies that RunPod refuses, and webhooks when jobs end. Workers are trusted: the SDK may
send a key of its own. After runpod 1.12.0, `rp_job.py`, `rp_http.py` and `rp_ping.py`.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import requests
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from bucketscribe_contract import ExecutionPolicy
from devstack.events import Event, EventKind
from devstack.queue import (
    FINAL_EVENTS,
    Job,
    JobNotFound,
    JobQueue,
    NotRetryable,
    QueueConfig,
    Submission,
)

T = TypeVar("T")
HURRIED_POLL_S = 0.5
COUNTS = ("requests", "refused", "most_in_window", "most_at_once")
TICK_S = 0.1


class PayloadTooLarge(ValueError):
    """The body is larger than RunPod takes."""


class InvalidBody(ValueError):
    """The body is not what the protocol says."""


class Changes:
    """Wake the requests that are held open until the queue changes."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_closing = self.is_paused = False

    def notify(self) -> None:
        """Wake all requests that wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)

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
            await self.wait(left_s)
        return None


async def read_json(request: Request, max_bytes: int) -> dict[str, Any]:
    """Return the body, a JSON object; an oversized one is read to its end and dropped.

    Raises:
        PayloadTooLarge: More than `max_bytes`.
        InvalidBody: No JSON object, or one with NaN or lone surrogates, which JSON lacks.
    """
    size, chunks = 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size <= max_bytes:
            chunks.append(chunk)
    if size > max_bytes:
        raise PayloadTooLarge(f"the body has {size} bytes, the limit is {max_bytes}")
    try:
        value = json.loads(b"".join(chunks), parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError as exc:
        raise InvalidBody("the body is not valid JSON") from exc
    if not isinstance(value, dict):
        raise InvalidBody("the body is not a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


class TooManyRequests(Exception):
    """More requests of a kind than RunPod takes."""


class RateLimits:
    """Count the requests of all clients by kind, the first word of the path, and refuse some.

    Args:
        config: Has the limits.
        clock: Seconds, never falling.
    """

    def __init__(self, config: QueueConfig, clock: Callable[[], float]) -> None:
        self._clock, self._window_s = clock, config.rate_window_s
        self._limits = {
            "run": config.run_rate,
            "status": config.status_rate,
            "cancel": config.cancel_rate,
            "purge-queue": config.purge_rate,
        }
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._open: Counter[str] = Counter()
        self._counts = {name: Counter[str]() for name in COUNTS}
        self._connections: set[object] = set()

    @contextmanager
    def admit(self, kind: str, connection: object) -> Iterator[None]:
        """Count a request while it is answered.

        Args:
            kind: First word of its path.
            connection: What tells its connection from others: the client's address and port.

        Raises:
            TooManyRequests: The kind's limit is reached.
        """
        self._connections.add(connection)
        requests, refused, in_window, at_once = self._counts.values()
        requests[kind] += 1
        recent, limit = self._in_window(kind), self._limits.get(kind)
        if limit and (len(recent) >= limit.per_window or self._open[kind] >= limit.at_once):
            refused[kind] += 1
            raise TooManyRequests(kind)
        recent.append(self._clock())
        self._open[kind] += 1
        in_window[kind] = max(in_window[kind], len(recent))
        at_once[kind] = max(at_once[kind], self._open[kind])
        try:
            yield
        finally:
            self._open[kind] -= 1

    def report(self) -> dict[str, object]:
        """Return the counts so far; windows and requests at once are the fullest there were."""
        counts = {name: dict(count) for name, count in self._counts.items()}
        return {**counts, "connections": len(self._connections)}

    def _in_window(self, kind: str) -> deque[float]:
        """Return when the requests of the current window came."""
        recent, since_s = self._recent[kind], self._clock() - self._window_s
        while recent and recent[0] <= since_s:
            recent.popleft()
        return recent


Handler = Callable[[Request], Awaitable[Response]]


class ClientSide:
    """Routes for clients; every one wants `Authorization: Bearer KEY`."""

    def __init__(
        self, queue: JobQueue, changes: Changes, rate_limits: RateLimits, api_key: str
    ) -> None:
        self._queue = queue
        self._changes = changes
        self._rate_limits = rate_limits
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
            ("GET", "/_requests", self.rate_limits),
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
            with self._rate_limits.admit(kind, request.client):
                return await handler(request)

        return guarded

    async def run(self, request: Request) -> Response:
        """Queue a job and answer at once."""
        body = await read_json(request, self._queue.config.max_run_bytes)
        return _show_state(self._queue.submit(parse_submission(body, is_sync=False)))

    async def runsync(self, request: Request) -> Response:
        """Queue a job and answer when it ended, or with its state after a while."""
        body = await read_json(request, self._queue.config.max_runsync_bytes)
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
        return _show_state(self._queue.cancel(request.path_params["job_id"]))

    async def retry(self, request: Request) -> Response:
        """Queue a failed job again."""
        return _show_state(self._queue.retry(request.path_params["job_id"]))

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

    async def rate_limits(self, request: Request) -> Response:
        """Show the counts of requests and connections. Not RunPod's, as the log."""
        return JSONResponse(self._rate_limits.report())

    def _named(self, request: Request) -> Job:
        return self._queue.find(request.path_params["job_id"])

    async def _when_ended(self, request: Request, job: Job) -> Response:
        wait_s = self._queue.config.sync_wait_s
        await self._changes.poll(request, lambda: job.state.is_final, wait_s)
        return _show(self._queue.find(job.job_id))


def _show(job: Job) -> Response:
    return JSONResponse(job.to_wire())


def _show_state(job: Job) -> Response:
    return JSONResponse({"id": job.job_id, "status": job.state.value})


def parse_submission(body: dict[str, Any], *, is_sync: bool) -> Submission:
    """Check the body of /run as RunPod does; what `input` holds is the worker's business.

    Raises:
        InvalidBody: `input`, `policy` or `webhook` is wrong; the message names the field.
    """
    job_input, webhook = body.get("input"), body.get("webhook")
    if not isinstance(job_input, dict):
        raise InvalidBody("input: a JSON object is required")
    if webhook is not None and not str(webhook).startswith(("http://", "https://")):
        raise InvalidBody("webhook: an http or https URL is required")
    return Submission(job_input, _parse_policy(body.get("policy")), webhook, is_sync)


def _parse_policy(given: object) -> ExecutionPolicy:
    try:
        return ExecutionPolicy.model_validate({} if given is None else given)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        name = ".".join(["policy", *map(str, first["loc"])])
        raise InvalidBody(f"{name}: {first['msg']}") from exc


class Webhooks:
    """Deliver the webhooks of one queue, as tasks of the running event loop."""

    def __init__(self, queue: JobQueue) -> None:
        self._queue = queue
        self._tasks: set[asyncio.Task[None]] = set()

    def on_event(self, event: Event) -> None:
        """Start a delivery if the event ends a job."""
        if event.kind in FINAL_EVENTS.values() and event.job_id is not None:
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
        document, config = job.to_wire(), self._queue.config
        for attempt in range(1 + config.webhook_retries):
            if attempt:
                await asyncio.sleep(config.webhook_interval_s)
            if await asyncio.to_thread(
                _post, job.submission.webhook, document, config.webhook_timeout_s
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

    async def _take(self, request: Request, count: int) -> list[Job]:
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
        hold_s = HURRIED_POLL_S if is_retired else self._queue.config.take_poll_s
        return await self._changes.poll(request, attempt, hold_s)

    async def done(self, request: Request) -> Response:
        """Take a result, or progress: the SDK posts both here."""
        worker_id, job_id = request.path_params["worker_id"], request.path_params["job_id"]
        try:
            body = await read_json(request, self._queue.config.max_result_bytes)
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
        body = await read_json(request, self._queue.config.max_result_bytes)
        worker_id, job_id = request.path_params["worker_id"], request.path_params["job_id"]
        self._queue.progress(worker_id, job_id, body.get("output"))
        return Response()

    async def ping(self, request: Request) -> Response:
        """Note that the worker lives."""
        self._queue.ping(request.path_params["worker_id"])
        return Response()


def _handed(job: Job) -> dict[str, object]:
    return {"id": job.job_id, "input": job.submission.input}


def create_app(
    queue: JobQueue, changes: Changes, rate_limits: RateLimits, endpoint_id: str, api_key: str
) -> Starlette:
    """Return the app that serves `queue`.

    Args:
        queue: The rules; called in the app's event loop only.
        changes: Woken by each event of the queue.
        rate_limits: Counts clients' requests, and refuses too many.
        endpoint_id: RunPod's name of the endpoint.
        api_key: What clients have to present.
    """
    webhooks = Webhooks(queue)
    queue.events.listen(lambda _: changes.notify())
    queue.events.listen(webhooks.on_event)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        ticking = asyncio.get_running_loop().create_task(_tick(queue))
        yield
        ticking.cancel()
        webhooks.stop()

    clients = ClientSide(queue, changes, rate_limits, api_key)
    sides = clients.routes() + WorkerSide(queue, changes).routes()
    return Starlette(
        routes=[Mount(f"/v2/{endpoint_id}", routes=sides)],
        exception_handlers={
            JobNotFound: _answer(404, lambda exc: "job not found"),
            NotRetryable: _answer(400, str),
            InvalidBody: _answer(400, str),
            PayloadTooLarge: _answer(413, str),
            TooManyRequests: _answer(429, lambda exc: "too many requests"),
        },
        lifespan=lifespan,
    )


async def _tick(queue: JobQueue) -> None:
    while True:
        queue.tick()
        await asyncio.sleep(TICK_S)


def _answer(
    status: int, describe: Callable[[Exception], str]
) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, exc: Exception) -> Response:
        return JSONResponse({"error": describe(exc)}, status)

    return answer

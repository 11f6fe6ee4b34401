"""The queue as an ASGI app: both sides under `/v2/{endpoint}`, and time passing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount

from devstack.client_side import ClientSide
from devstack.jobs import JobNotFound, JobQueue, NotRetryable
from devstack.polling import Changes, InvalidBody, PayloadTooLarge
from devstack.traffic import TooManyRequests, Traffic
from devstack.webhooks import Webhooks
from devstack.worker_side import WorkerSide

TICK_S = 0.1


def create_app(
    queue: JobQueue, changes: Changes, traffic: Traffic, endpoint_id: str, api_key: str
) -> Starlette:
    """Return the app that serves `queue`.

    Args:
        queue: The rules; called in the app's event loop only.
        changes: Woken by each event of the queue.
        traffic: Counts clients' requests, and refuses too many.
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

    clients = ClientSide(queue, changes, traffic, api_key)
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

"""Requests that are held open until something happens, and bodies with a limit."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from starlette.requests import Request

T = TypeVar("T")
HURRIED_POLL_S = 0.5


class PayloadTooLarge(ValueError):
    """The body is larger than RunPod takes."""


class InvalidBody(ValueError):
    """The body is not what the protocol says."""


class Changes:
    """Wakes whoever waits for the queue to change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.is_closing = self.is_paused = False

    def notify(self) -> None:
        """Wake all that wait now."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> None:
        """Return at the next change, or after `timeout_s`."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout_s)

    async def poll(self, request: Request, attempt: Callable[[], T], timeout_s: float) -> T | None:
        """Repeat `attempt` after each change until it returns something true.

        Nothing is attempted for a client that has gone: a job handed to a closed
        connection would be lost until its worker falls silent. So nothing is attempted either
        while polls are paused. While the server closes, they end early so that workers can.
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
        raise PayloadTooLarge(f"{size} bytes are more than the {max_bytes} that are taken")
    return parse_object(b"".join(chunks))


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse strict JSON that holds one object."""
    try:
        value = json.loads(body, parse_constant=_refuse_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except ValueError as exc:
        raise InvalidBody("the body is not valid JSON") from exc
    if not isinstance(value, dict):
        raise InvalidBody("the body is not a JSON object")
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")

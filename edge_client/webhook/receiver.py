"""What the receiver answers, as an ASGI application.

    GET  /health                       200 while it runs
    POST /…/SECRET/<encoded session>   200 queued, 503 no room: RunPod tries twice more
    POST /…/SECRET                     400 to who knows the secret: the URL names no session
    anything else                      404

The path is decided on before any of the body is read. The body is read to its end, because a
proxy takes an early answer for a failure, and is thrown away: see
``docs/adr/0007-the-body-of-a-callback-is-never-trusted.md``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

from edge_client.errors import BadUsage
from edge_client.layout import Session
from edge_client.webhook.finisher import named
from edge_client.webhook.secret import Secret

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)
MAX_BODY_BYTES = 32_000_000
"""More than RunPod takes as a result (20 MB)."""
BODY_TIMEOUT_S = 30.0
MAX_KEY_BYTES = 1024
"""S3's limit: no session has a longer prefix."""
_TEXTS = {
    200: "ok\n",
    400: "the URL names no session: submit with --webhook https://HOST/PATH/SECRET/{session}\n",
    404: "not found\n",
    408: "the body took too long\n",
    413: "the body is too large\n",
    503: "no room: try again later\n",
}


class Receiver:
    """Takes callbacks in.

    Args:
        secret: What the path must hold.
        offer: Takes a session in; False if there is no room.
    """

    def __init__(self, secret: Secret, offer: Callable[[Session], bool]) -> None:
        self._secret, self._offer = secret, offer

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        method, path = scope["method"], scope["raw_path"]
        if (method, path) == ("GET", b"/health"):
            return await _answer(send, 200)
        segments = unquote_to_bytes(path).decode("utf-8", "replace").split("/")
        place = self._secret.place_in(segments)
        if place is None or method != "POST":
            return await _answer(send, 404)
        status = self._take_in("/".join(segments[place + 1 :]))
        unread = await _discard(receive)
        return await _answer(send, unread or status)

    def _take_in(self, prefix: str) -> int:
        try:
            session = Session.parse(prefix)
        except BadUsage:
            log.warning("a call with the right secret names no session: see docs/webhooks.md")
            return 400
        if len(session.prefix.encode()) > MAX_KEY_BYTES:
            return 400
        if not self._offer(session):
            log.warning("%s: no room for the call", named(session))
            return 503
        log.info("%s: called", named(session))
        return 200


async def _discard(receive: Receive) -> int | None:
    """Read the body away; return the status of one that is too large or too slow."""
    size_bytes = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                size_bytes += len(message.get("body", b""))
                if size_bytes > MAX_BODY_BYTES:
                    return 413
                if not message.get("more_body"):  # the end, or the caller is gone
                    return None
    except TimeoutError:
        return 408


async def _answer(send: Send, status: int) -> None:
    body = _TEXTS[status].encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),  # an unread body ends with its connection
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})

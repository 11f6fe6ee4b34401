"""``edge-client webhook serve``: receiver, inbox and settlers, from start to SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_client.clock import Clock
from edge_client.errors import EdgeError, WaitTimedOut
from edge_client.services.edge import Edge
from edge_client.settings import is_loopback_http
from edge_client.text import Printer
from edge_client.webhook.finisher import Finisher
from edge_client.webhook.inbox import Inbox, Settlers
from edge_client.webhook.server import Receiver, Secret, Server, load_secret

CAPACITY = 10_000
SETTLERS = 8
GRACE_S = 20.0


def serve(env_file: Path | None, printer: Printer, listen: str, secret_file: Path | None) -> int:
    """Receive callbacks until a signal comes.

    Raises:
        NotConfigured: Settings or the secret are missing, or the address is taken.
    """
    stop = threading.Event()
    edge = Edge(Edge.load(env_file).settings, Clock(sleep=_until(stop)))
    secret = load_secret(secret_file, edge.settings.webhook_secret)
    _ = edge.bucket, edge.api  # made once, before there are threads
    logging.getLogger("edge_client.webhook").setLevel(logging.INFO)
    receive(secret, listen, Finisher(edge), stop, printer.note)
    return 0


def receive(
    secret: Secret,
    listen: str,
    finisher: Finisher,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Serve on ``HOST:PORT`` until ``stop`` is set or a signal sets it; then let settlers finish.

    Raises:
        EdgeError: The server ended by itself.
    """
    inbox = Inbox(CAPACITY)
    settlers = Settlers(inbox, finisher, SETTLERS)
    ended = threading.Event()

    def end() -> None:
        ended.set()
        stop.set()

    receiver = Receiver(secret, inbox.offer, finisher.hints)
    with _signals_set(stop), Server(receiver, listen, end) as server:
        settlers.start()
        say(f"listening on {server.url}")
        if not is_loopback_http(server.url):
            say("this is plain HTTP on a public address: the secret needs a TLS proxy in front")
        stop.wait()
        broken = ended.is_set()
    _stop(inbox, settlers, say)
    if broken:
        raise EdgeError("the HTTP server ended by itself: the log says why; start it again")


def _stop(inbox: Inbox, settlers: Settlers, say: Callable[[str], None]) -> None:
    left = inbox.close() + settlers.join(GRACE_S)
    sessions = "1 session is" if left == 1 else f"{left} sessions are"
    say(f"stopped; {sessions} left to `edge-client batch` or `wait`" if left else "stopped")


def _until(stop: threading.Event) -> Callable[[float], None]:
    """Return a sleep that a signal ends; who slept leaves the session as it is."""

    def sleep(pause_s: float) -> None:
        if stop.wait(pause_s):
            raise WaitTimedOut("the receiver stops")

    return sleep


@contextmanager
def _signals_set(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and SIGINT set ``stop``; a second signal has its default effect."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(*_: object) -> None:
        restore()
        stop.set()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()

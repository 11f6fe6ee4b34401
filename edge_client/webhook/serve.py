"""``edge-client webhook serve``: receiver and work queue, from start to SIGTERM."""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from edge_client import errors
from edge_client.jobs import claim as claims
from edge_client.jobs.poll import log_view
from edge_client.jobs.reconcile import Done, Reconciler
from edge_client.jobs.retry_policy import Result
from edge_client.jobs.workqueue import WorkQueue
from edge_client.services.edge import Edge
from edge_client.session import Session
from edge_client.settings import is_loopback_http
from edge_client.text import Printer
from edge_client.webhook.server import (
    Receiver,
    Secret,
    bound,
    http_server,
    load_secret,
    named,
    url_of,
)

log = logging.getLogger(__name__)
THREADS = 8
GRACE_S = 20.0
LOOKS = 4
"""So often is a job looked at that does not seem to have ended: a status that lags behind its
callback catches up in the 4 s that they take."""


def adopt(edge: Edge, session: Session, job_id: str) -> None:
    """Put the job that a callback names into a claim that has none, if RunPod proves it to be its.

    The submission's answer was lost. Anybody may have called: the job counts only if its output
    echoes the claim's ``request_id``.
    """
    held = claims.read(edge.bucket, session)
    if held is None or held.claim is None or held.claim.job_id is not None:
        return
    with suppress(errors.JobNotFound, errors.ClaimConflict):
        if edge.api.status(job_id).request_id == held.claim.request_id:
            claim = held.claim.model_copy(update={"job_id": job_id})
            claims.store(edge.bucket, session, claim, held)


class Finisher:
    """Brings sessions on, a `Reconciler` step a call: no thread sleeps through a pause.

    The receiver fills in ``hints``: the jobs that calls named.
    """

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self.recordings = edge.settings.recordings
        self.hints: dict[Session, str] = {}
        self._visits: dict[Session, tuple[Reconciler, int]] = {}

    def finish(self, session: Session) -> float | None:
        """Resolve the session's job if it ended, and do what the retry policy says.

        Called about anything: twice, late, for a session that is done, that nobody submitted,
        that does not exist, or whose job still runs. Not called twice at a time for one session.
        Return the seconds after which to call it again, None if nothing more is to do here.
        """
        seconds = self._bring_on(session, named(session))
        if seconds is None:
            self.hints.pop(session, None)
        return seconds

    def _bring_on(self, session: Session, name: str) -> float | None:
        begun = self._visits.pop(session, None)
        reconciler, looks = begun or (Reconciler(self._edge, session, log_view(log, session)), 0)
        before = reconciler.claim
        with suppress(errors.Unreachable, errors.RateLimited):
            if session in self.hints:
                adopt(self._edge, session, self.hints[session])
                del self.hints[session]
        try:
            seen = reconciler.step()
        except errors.EdgeError as exc:
            log.warning("%s: %s", name, exc)
            return None
        claim = reconciler.claim
        if isinstance(seen, Done):
            level = logging.INFO if seen.outcome.result is Result.DONE else logging.WARNING
            log.log(level, "%s: %s: %s", name, seen.outcome.result, seen.outcome.text)
            return None
        if before is not None and claim is not None and before.request_id != claim.request_id:
            log.info("%s: job %s replaced it", name, claim.job_id)
            return None
        looks += not reconciler.plans_submission and not reconciler.is_waiting
        if looks >= LOOKS:
            log.info("%s: its job has not ended, it is left alone", name)
            return None
        self._visits[session] = reconciler, looks
        return seen.seconds


def serve(env_file: Path | None, printer: Printer, listen: str, secret_file: Path | None) -> int:
    """Receive callbacks until a signal comes; raises `NotConfigured` if it cannot begin."""
    edge = Edge.load(env_file)
    secret = load_secret(secret_file, edge.settings.webhook_secret)
    _ = edge.bucket, edge.api  # made once, before there are threads
    logging.getLogger("edge_client.webhook").setLevel(logging.INFO)
    receive(secret, bound(listen), Finisher(edge), printer.note)
    return 0


def receive(
    secret: Secret, listener: socket.socket, finisher: Finisher, say: Callable[[str], None]
) -> None:
    """Serve until the first SIGTERM or SIGINT, then let threads finish; a second one kills."""
    queue = WorkQueue(finisher.finish)
    receiver = Receiver(secret, queue.add, finisher.hints, finisher.recordings)
    server, url = http_server(receiver), url_of(listener)
    queue.start(THREADS, "webhook")
    say(f"listening on {url}")
    if not is_loopback_http(url):
        say("this is plain HTTP on a public address: the secret needs a TLS proxy in front")
    _on_signals(signal.SIG_IGN)  # the server has its own handlers, and raises the signal again
    server.run(sockets=[listener])
    _on_signals(signal.SIG_DFL)
    left = queue.close() + queue.join(GRACE_S)
    sessions = "1 session is" if left == 1 else f"{left} sessions are"
    say(f"stopped; {sessions} left to `edge-client batch` or `wait`" if left else "stopped")


def _on_signals(handler: signal.Handlers) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)

"""The edge client as a library: sign, submit, wait, read a transcript. The commands use it too.

Takes an `Edge` and sessions, as `Session` or as a user types them; returns frozen values; raises
`EdgeError`s. `submit` has an example. Everything can be called from several threads.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_client.errors import ClaimConflict, TranscriptInvalid, WaitTimedOut
from edge_client.jobs import claim as claims
from edge_client.jobs import submit as submission
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.callback_url import checked
from edge_client.jobs.claim import Claim, Wanted
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.poll import LogView, View
from edge_client.jobs.reconcile import End, Reconciler
from edge_client.jobs.submit import Submission, check_job_options
from edge_client.jobs.transcript import Document
from edge_client.services.edge import Edge
from edge_client.services.presign import SignedUrls, check_expiry, sign_urls
from edge_client.session import Session

log = logging.getLogger(__name__)


def sign(edge: Edge, session: Session | str, expires_s: int | None = None) -> SignedUrls:
    """Return presigned URLs: a GET of a session's recording, a PUT of its transcript.

    Args:
        edge: Settings and services; `Edge.load` makes it.
        session: ``users/USER/audio/sessions/NAME``, or a bare NAME, which is looked up.
        expires_s: 1 to 604,800 seconds; None: PRESIGNED_URL_EXPIRY.

    Raises:
        BadUsage: ``expires_s`` is out of range.
        NotConfigured: The keys cannot be had, or ended.
    """
    expires_s = check_expiry(edge.settings.url_expiry_s if expires_s is None else expires_s)
    return sign_urls(edge.connection, edge.session(session), expires_s)


def submit(
    edge: Edge,
    session: Session | str,
    *,
    webhook: str | None = None,
    force: bool = False,
    progress_file: bool = False,
    follow: bool = False,
    say: Callable[[str], None] = log.info,
    **options: Any,
) -> Submission:
    """Submit a session, unless it is done or its job is in flight.

    Example::

        from edge_client import Edge, read_transcript, submit, wait

        edge = Edge.load()  # .env and the environment, as the commands
        submitted = submit(edge, "users/u1/audio/sessions/s1", language="en", num_speakers=2)
        end = wait(edge, submitted, timeout_s=7200)
        if end.outcome.delivered is not None:
            for line in read_transcript(edge, end.session).lines:
                print(f"{line.start_s:.1f} {line.speaker}: {line.text}")

    Args:
        edge: Settings and services.
        session: As in `sign`.
        webhook: https URL that RunPod posts the ended job to.
        force: Submit although the session is done or its job is in flight, which is cancelled.
        progress_file: The worker writes its progress into ``transcription.progress.json``, too.
        follow: `wait` comes next: leave a job that ended, and whose end nobody has seen, to it.
        say: Told what is worth knowing, one line at a time.
        **options: Fields of the contract's `JobInput`, such as ``language`` or ``num_speakers``.

    Raises:
        BadUsage: An option or the webhook cannot be.
        AudioNotFound: No recording, or an empty one.
        ClaimConflict: Another edge box was faster, or the claim forbids it.
        AnswerLost: The job may be in flight: `wait` finds out, and goes on.
    """
    wanted = Wanted(wishes=check_job_options(options), webhook=webhook, progress_file=progress_file)
    if webhook is not None:
        checked(webhook, edge.settings.runpod_url)
    return submission.submit(edge, edge.session(session), wanted, say, force=force, follow=follow)


@dataclass(frozen=True)
class SessionEnd:
    """How a session ended, and the claim of the submission that came to it, if there is one."""

    session: Session
    outcome: Outcome
    claim: Claim | None


def wait(
    edge: Edge,
    session: Session | Submission | str,
    *,
    timeout_s: float | None = None,
    view: View | None = None,
) -> SessionEnd:
    """Wait until a session has its transcript, or has failed for good.

    Any edge box may go on with what another one began: a job that ends in a way that can be
    recovered is submitted again, whoever submitted it.

    Args:
        edge: Settings and services.
        session: As in `sign`, or what `submit` returned.
        timeout_s: Seconds at most; None: as long as jobs can live.
        view: Shows progress; None: what is noteworthy is logged.

    Raises:
        ClaimConflict: Nothing was submitted, or the job is on another endpoint.
        WaitTimedOut: There is no transcript yet; the job goes on.
        EdgeError: A service does not answer, or refuses.
    """
    which = session.session if isinstance(session, Submission) else edge.session(session)
    claim = session.claim if isinstance(session, Submission) else None
    claim = claim or claims.current(edge.bucket, which)
    if claim is None or not claim.is_alive(edge.clock.now()):
        audio = edge.bucket.head(which.audio_key)
        found = transcripts.find_done(edge.bucket, which, audio, claim)
        if found is not None:
            return SessionEnd(which, Outcome.stored(found), claim)
    if claim is None:
        raise ClaimConflict(
            f"nothing was submitted for {which}: `edge-client submit {which.quoted} --wait`"
        )
    reconciler = Reconciler(edge, which, claim, view or LogView(log, which))
    ends_at = math.inf if timeout_s is None else edge.clock.monotonic() + timeout_s
    while not isinstance(seen := reconciler.step(), End):
        left_s = ends_at - edge.clock.monotonic()
        if left_s <= 0:
            state = "no job is in flight" if reconciler.plans_submission else "its job goes on"
            raise WaitTimedOut(
                f"no transcript after {timeout_s:.0f} s, {state}; "
                f"`edge-client wait {which.quoted}` resumes"
            )
        edge.clock.sleep(min(seen, left_s))
    return SessionEnd(which, seen.outcome, seen.claim)


def read_transcript(edge: Edge, session: Session | str) -> Document:
    """Return a session's transcript.

    Raises:
        TranscriptInvalid: There is none, or it cannot be read.
    """
    which = edge.session(session)
    found = edge.bucket.read(which.result_key)
    if found is None:
        raise TranscriptInvalid(
            f"no transcript of {which} yet: `edge-client submit {which.quoted} --wait`"
        )
    return transcripts.parse(found[0], which.result_key)


__all__ = ["Edge", "Session", "SessionEnd", "read_transcript", "sign", "submit", "wait"]

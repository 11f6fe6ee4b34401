"""The edge client as a library: sign, submit, wait, read a transcript. The commands use it too.

Takes an `Edge` and sessions, as `Session` or as a user types them; returns frozen values; raises
`EdgeError`s. README has an example. Everything can be called from several threads.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from bucketscribe_contract import JobOptions
from bucketscribe_render.document import Document
from bucketscribe_render.page import as_html
from edge_client import errors
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.callback_url import checked
from edge_client.jobs.claim import Claim, StoredClaim, Wanted
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.poll import NotesView, View, log_view, why_jobs_wait
from edge_client.jobs.reconcile import Done, Reconciler
from edge_client.jobs.retry_policy import Result
from edge_client.jobs.submit import Order
from edge_client.jobs.transcript import Match, match
from edge_client.services.edge import Edge
from edge_client.services.presign import SignedUrls, sign_urls
from edge_client.services.s3 import ObjectInfo
from edge_client.session import Session

log = logging.getLogger(__name__)
EXPLAIN_S = 120.0
"""After so long in the queue a job's waiting is explained, and again when the reason is another."""


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
    expires_s = edge.settings.url_expiry_s if expires_s is None else expires_s
    return sign_urls(edge.connection, edge.session(session), expires_s)


class State(StrEnum):
    """What `submit` found, or did."""

    SUBMITTED = "submitted"
    ALREADY_SUBMITTED = "already_submitted"
    UNANSWERED = "unanswered"
    ALREADY_DONE = "already_done"


@dataclass(frozen=True)
class Submission:
    """A session that has its job, or needs none.

    Attributes:
        held: The claim of the job in flight; None if there is none.
        done: With `State.ALREADY_DONE`.
    """

    state: State
    session: Session
    held: StoredClaim | None = None
    done: Outcome | None = None

    @property
    def claim(self) -> Claim | None:
        """What ``held`` says."""
        return None if self.held is None else self.held.claim


def submit(
    edge: Edge,
    session: Session | str,
    *,
    webhook: str | None = None,
    force: bool = False,
    progress_file: bool = False,
    say: Callable[[str], None] = log.info,
    **options: Any,
) -> Submission:
    """Submit a session, unless it is done or its job is in flight.

    Args:
        edge: Settings and services.
        session: As in `sign`.
        webhook: https URL that RunPod posts the ended job to.
        force: Submit although the session is done or its job is in flight, which is cancelled.
        progress_file: The worker writes its progress into ``transcription.progress.json``, too.
        say: Told what is worth knowing, one line at a time.
        **options: Fields of the contract's `JobOptions`, such as ``language``.

    Raises:
        BadUsage: An option or the webhook cannot be.
        AudioNotFound: No recording, or an empty one.
        ClaimConflict: The claim forbids it.
    """
    wanted = check(edge, webhook, progress_file, **options)
    which, view = edge.session(session), NotesView(say)
    held = claims.read(edge.bucket, which)
    if held is not None and held.claim is None and not (force or held.is_copy):
        text = f"{which.claim_key} is no claim of this client: --force replaces it"
        raise errors.ClaimConflict(text)
    order = Order(wanted, held, may_be_done=True, force=force)
    claim = None if force else order.claim
    if held is not None and claim is not None and claim.is_open(edge.clock.now()):
        there = _in_flight(edge, which, Reconciler(edge, which, view, held))
        if isinstance(there, Submission):
            return there
        say(f"job {claim.job_id} ended: {there.outcome.text}; submitting again")
        order = replace(order, held=claims.read(edge.bucket, which), ended=there.outcome.code)
    elif claim is not None and claim.ended not in (None, claims.DONE):
        say(f"job {claim.job_id} ended: {claim.ended}; submitting again")
    made = _in_flight(edge, which, Reconciler(edge, which, view, order))
    if isinstance(made, Submission):
        return made
    return Submission(State.ALREADY_DONE, which, done=made.outcome)


def check(edge: Edge, webhook: str | None, progress_file: bool, **options: Any) -> Wanted:
    """Return what is asked for, as a claim keeps it; `BadUsage` names the command line's option."""
    try:
        job = JobOptions(**options)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        name = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"] == ("language",):
            text = "give a code or name that Whisper has, or a tag: en, english, en-US"
        raise errors.BadUsage(name + text) from None
    if webhook is not None:
        checked(webhook, edge.settings.runpod_url)
    return Wanted(options=job, webhook=webhook, progress_file=progress_file)


def _in_flight(edge: Edge, which: Session, reconciler: Reconciler) -> Submission | Done:
    """Go on until a job is in flight, or until there is an end without a transcript."""
    while not isinstance(seen := reconciler.step(), Done):
        is_settled = not reconciler.plans_submission and not reconciler.is_waiting
        if reconciler.claim is not None and is_settled:
            state = State.SUBMITTED if reconciler.posted else State.ALREADY_SUBMITTED
            state = State.UNANSWERED if reconciler.claim.job_id is None else state
            return Submission(state, which, reconciler.held)
        edge.clock.sleep(seen.seconds)
    if seen.outcome.transcript is not None or seen.outcome.result is Result.UNPROVEN:
        return Submission(State.ALREADY_DONE, which, done=seen.outcome)
    return seen


def wait(
    edge: Edge,
    session: Session | Submission | str,
    *,
    timeout_s: float | None = None,
    view: View | None = None,
) -> Done:
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
    held = session.held if isinstance(session, Submission) else None
    view, told, told_s = view or log_view(log, which), set[str](), -math.inf
    reconciler = Reconciler(edge, which, view, held)
    ends_at = math.inf if timeout_s is None else edge.clock.monotonic() + timeout_s
    while not isinstance(seen := reconciler.step(), Done):
        left_s = ends_at - edge.clock.monotonic()
        if left_s <= 0:
            state = "no job is in flight" if reconciler.plans_submission else "its job goes on"
            resumes = f"`edge-client wait {which.quoted}` resumes"
            raise errors.WaitTimedOut(f"no transcript after {timeout_s:.0f} s, {state}; {resumes}")
        since_s, now_s = reconciler.queued_since_s, edge.clock.monotonic()
        if since_s is not None and now_s - max(since_s, told_s) > EXPLAIN_S:
            told_s = now_s
            with suppress(errors.EdgeError):
                why = why_jobs_wait(edge.api.health()) or "all workers are at work"
                if why not in told:
                    view.note(f"the job waits: {why}")
                told.add(why)
        edge.clock.sleep(min(seen.seconds, left_s))
    return seen


def read_transcript(edge: Edge, session: Session | str) -> Document:
    """Return a session's transcript; raises `TranscriptInvalid` if there is none to read."""
    which = edge.session(session)
    return transcripts.parse(read_stored(edge, which)[0], which.result_key)


def make_page(edge: Edge, session: Session | str, *, link: bool = False) -> str:
    """Return a session's transcript as an HTML page; raises as `read_transcript`.

    With ``link`` the page holds a presigned GET of the recording, and is a secret until that ends.
    """
    which = edge.session(session)
    body, _ = read_stored(edge, which)
    transcripts.parse(body, which.result_key)
    if not link:
        return as_html(body, which.name)
    urls, keys_end = sign(edge, which), edge.connection.keys_end()
    return as_html(
        body, which.name, urls.audio_url, min(urls.expires_at, keys_end or urls.expires_at)
    )


def name_speakers(
    edge: Edge,
    session: Session | str,
    names: Mapping[str, str],
    of: tuple[str | None, str | None] | None = None,
) -> dict[str, str]:
    """Write speakers' names into a session's transcript; return all that it has then, by label.

    An empty name takes one away. ``of`` are ``request_id`` and ``audio_etag`` of the transcript
    that the names are for; None: of any. Raises `BadUsage` for what cannot be a name or label.

    Raises:
        ClaimConflict: A job is in flight, which replaces no transcript but the one that it saw.
        PreconditionFailed: It is another, was just changed, or is outdated: a newer one is done.
    """
    which = edge.session(session)
    body, info = read_stored(edge, which)
    doc, claim = transcripts.parse(body, which.result_key), claims.current(edge.bucket, which)
    is_open = claim is not None and claim.is_open(edge.clock.now())
    if claim is not None and is_open and claim.request_id != doc.request_id:
        remedy = f"`edge-client wait {which.quoted}` first"
        raise errors.ClaimConflict(f"a job brings another transcript of {which}: {remedy}")
    why, stored = None, transcripts.as_stored(body, info)
    if match(edge.bucket.head(which.audio_key), claim, stored) is Match.OUTDATED:
        remedy = f"`edge-client submit {which.quoted} --wait`"
        why = f"its transcript is of an earlier recording: {remedy}"
    if of not in (None, (doc.request_id, doc.audio_etag)):
        why = f"the names are for another transcript: `edge-client view {which.quoted}`, name anew"
    if why is not None:
        raise errors.PreconditionFailed(f"{which}: {why}")
    for label, name in names.items():
        if label not in doc.speakers:
            text = f"no speaker {label!r} in {which}: it has {', '.join(doc.speakers)}"
            raise errors.BadUsage(text)
        if not re.fullmatch(r"[^\x00-\x1f\x7f-\x9f]{0,100}", name):
            raise errors.BadUsage(f"{label}: a name has up to 100 characters, on one line")
    kept = {label: names.get(label, doc.speaker_names.get(label, "")) for label in doc.speakers}
    kept = {label: name for label, name in kept.items() if name}
    if kept != doc.speaker_names:
        document = json.loads(body, parse_constant=lambda _: None) | {"speaker_names": kept}
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        try:
            edge.bucket.replace(which.result_key, text.encode(), info.etag)
        except errors.PreconditionFailed as exc:
            said = "somebody else changed its transcript just now: look at it, then repeat"
            raise errors.PreconditionFailed(f"{which}: {said}") from exc
    return kept


def read_stored(edge: Edge, which: Session) -> tuple[bytes, ObjectInfo]:
    """Return a session's transcript as it is stored; raises `TranscriptInvalid` without one."""
    found = edge.bucket.read(which.result_key)
    if found is None:
        remedy = f"`edge-client submit {which.quoted} --wait`"
        raise errors.TranscriptInvalid(f"no transcript of {which} yet: {remedy}")
    return found


__all__ = ["Edge", "Session", "Done", "make_page", "read_transcript", "sign", "submit", "wait"]

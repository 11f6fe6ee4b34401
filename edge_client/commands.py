"""What the commands do, without their options: `edge_client.cli` has those.

Each takes plain values, prints through a `Printer` and returns the exit code.

Sees one session through, sleeping in between: `edge_client.jobs.reconcile` with a clock.

Takes the claim of a job; returns how the last submission ended.

Tells what is known of a session or a job, for `status` and `cancel`.

Waits for a session's transcript, whoever submitted it.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bucketscribe_contract import JobStatus
from edge_client import doctor as doctor_
from edge_client import output
from edge_client.clock import Deadline
from edge_client.errors import (
    AnswerLost,
    ClaimConflict,
    Interrupted,
    SessionNotFound,
    TranscriptInvalid,
    WaitTimedOut,
)
from edge_client.jobs import claim as claims
from edge_client.jobs import submit as submission
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.callback_url import checked
from edge_client.jobs.claim import Claim
from edge_client.jobs.outcome import Outcome
from edge_client.jobs.poll import View, progress_of
from edge_client.jobs.reconcile import End, Reconciler
from edge_client.jobs.retry_policy import Result, classify_status
from edge_client.jobs.submit import Order, State, ask, check_endpoint
from edge_client.output import view_for, words
from edge_client.services.edge import Edge
from edge_client.services.presign import check_expiry, early_end, sign_urls
from edge_client.session import Session
from edge_client.settings import load
from edge_client.text import Printer


class Campaign:
    """The submissions of one session, until there is a transcript or nothing more to do.

    Args:
        edge: Settings and services.
        session: Which.
        view: Shows progress, and what is done.
        deadline: How long to wait in all.
    """

    def __init__(self, edge: Edge, session: Session, view: View, deadline: Deadline) -> None:
        self._edge, self._session, self._view, self._deadline = edge, session, view, deadline

    def run(self, claim: Claim) -> End:
        """Follow the claim's job, and those that take its place.

        Raises:
            WaitTimedOut: The time is over; the job goes on, or none is out.
            ClaimConflict: The job is on another endpoint.
            EdgeError: A service does not answer, or refuses.
        """
        reconciler = Reconciler(self._edge, self._session, claim, self._view)
        while True:
            seen = reconciler.step()
            if isinstance(seen, End):
                return seen
            left_s = self._deadline.left_s()
            if left_s <= 0:
                raise WaitTimedOut(self._over(reconciler))
            self._edge.clock.sleep(min(seen, left_s))

    def _over(self, reconciler: Reconciler) -> str:
        waited = f"after {self._deadline.timeout_s or 0:.0f} s"
        if reconciler.plans_submission:
            return f"no transcript {waited}: nothing is out now"
        return f"still out {waited}: the job goes on"


_RUNPOD_JOB = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\w{2}")
_ANY_JOB = re.compile(r"[A-Za-z0-9-]{1,80}")


def describe(edge: Edge, what: str) -> tuple[dict[str, Any], str]:
    """Describe a session or a job, as facts and as text.

    Raises:
        SessionNotFound: It is neither.
    """
    session = _session(edge, what)
    if session is not None:
        return _of_session(edge, session)
    status = ask(edge, what)
    if status is None:
        raise SessionNotFound(
            f"{what}: no session has this name, and RunPod has no such job (it forgets jobs "
            "30 minutes after their end)"
        )
    return _job(status)


def job_to_cancel(edge: Edge, what: str) -> str:
    """Return the id of the job that ``what`` names.

    Raises:
        ClaimConflict: The session has no job that could be cancelled.
    """
    session = _session(edge, what)
    if session is None:
        return what
    held = claims.read(edge.bucket, session)
    if held is None or held.claim is None:
        raise ClaimConflict(f"nothing was submitted for {session}: there is nothing to cancel")
    check_endpoint(edge, session, held.claim)
    if held.claim.job_id is None:
        raise ClaimConflict(
            f"the job of {session} is not known: its submission's answer was lost; it ends by "
            f"itself before {held.claim.expires_at:%Y-%m-%d %H:%M} UTC"
        )
    return held.claim.job_id


def _session(edge: Edge, what: str) -> Session | None:
    """Tell sessions from jobs; None for a job.

    A bare word that no session has is taken for a job if it can be one.
    """
    if _RUNPOD_JOB.fullmatch(what):
        return None
    try:
        return edge.session(what)
    except SessionNotFound:
        if _ANY_JOB.fullmatch(what):
            return None
        raise


def _job(status: JobStatus) -> tuple[dict[str, Any], str]:
    seen = progress_of(status)
    facts = {
        "job_id": status.id,
        "job_state": status.status.value.lower(),
        "stage": seen.stage,
        "percent": seen.percent,
    }
    text = f"job {status.id}: {words(seen)}"
    if status.status.is_final:
        message = getattr(classify_status(status), "message", None)
        facts["message"] = message
        text += f": {message}" if message else ""
    return facts, text


def _of_session(edge: Edge, session: Session) -> tuple[dict[str, Any], str]:
    audio = edge.bucket.head(session.audio_key)
    held = claims.read(edge.bucket, session)
    claim = held.claim if held is not None else None
    done = transcripts.find_done(edge.bucket, session, audio, claim)
    job, job_text = _claimed(edge, session, claim)
    facts: dict[str, Any] = {
        "session": session.prefix,
        "audio_bytes": audio.size_bytes if audio is not None else None,
        "done": done is not None,
        **job,
    }
    audio_text = "no recording" if audio is None else f"{audio.size_bytes:,} bytes of recording"
    done_text = "done" if done is not None else "no transcript of this recording yet"
    return facts, f"{session}: {done_text}\n  {audio_text}\n  {job_text}"


def _claimed(edge: Edge, session: Session, claim: Claim | None) -> tuple[dict[str, Any], str]:
    if claim is None:
        return {"job_id": None, "job_state": None}, "no job was submitted"
    facts: dict[str, Any] = {
        "job_id": claim.job_id,
        "submitted_at": claim.submitted_at.isoformat(),
        "submitted_by": claim.submitted_by,
        "expires_at": claim.expires_at.isoformat(),
        "submission": len(claim.earlier) + 1,
        "ended": claim.ended,
    }
    if claim.ended is not None:
        return facts | {"job_state": "ended"}, f"job {claim.job_id} ended: {claim.ended}"
    if claim.job_id is None:
        text = f"submitted at {claim.submitted_at:%Y-%m-%d %H:%M} UTC, answer not known"
        return facts | {"job_state": "unknown"}, text
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id)
    if status is None:
        return facts | {"job_state": "forgotten"}, f"job {claim.job_id}: forgotten by RunPod"
    job, text = _job(status)
    return facts | job, text


def claim_of(edge: Edge, session: Session) -> Claim | None:
    """Return the session's claim, None if it has no readable one."""
    held = claims.read(edge.bucket, session)
    return held.claim if held is not None else None


def wait_for_end(
    edge: Edge, session: Session, claim: Claim | None, *, quiet: bool, timeout_s: float | None
) -> tuple[Outcome, Claim | None]:
    """Wait until a session has its transcript, or has failed for good.

    Any box may go on with what another one began: a job that ends in a way that can be recovered
    is recovered here, whoever submitted it (`edge_client.commands`).

    Args:
        edge: Settings and services.
        session: Which.
        claim: Of the job to follow.
        quiet: Show no progress.
        timeout_s: Seconds at most; None: as long as jobs can live.

    Returns:
        The end, and the claim of the submission that came to it.

    Raises:
        ClaimConflict: Nothing was submitted.
        WaitTimedOut: The job is still out.
    """
    if claim is None or not claim.is_alive(edge.clock.now()):
        done = _done(edge, session, claim)
        if done is not None:
            return done, claim
    if claim is None:
        raise ClaimConflict(
            f"nothing was submitted for {session}: `edge-client submit {session.quoted} --wait`"
        )
    with view_for(quiet) as view:
        campaign = Campaign(edge, session, view, Deadline(edge.clock, timeout_s))
        try:
            end = campaign.run(claim)
        except WaitTimedOut as exc:
            raise WaitTimedOut(f"{exc}; `edge-client wait {session.quoted}` resumes") from exc
    return end.outcome, end.claim


def _done(edge: Edge, session: Session, claim: Claim | None) -> Outcome | None:
    audio = edge.bucket.head(session.audio_key)
    found = transcripts.find_done(edge.bucket, session, audio, claim)
    return None if found is None else Outcome(Result.DONE, "the transcript is in S3", found)


def presign(env_file: Path | None, report: Printer, session: str, expires_s: int | None) -> int:
    """Print a session's two URLs."""
    edge = Edge.load(env_file, queue=False)
    expires_s = check_expiry(edge.settings.url_expiry_s if expires_s is None else expires_s)
    which = edge.session(session)
    urls = sign_urls(edge.connection, which, expires_s)
    early = early_end(edge.connection, urls.expires_at)
    if early is not None:
        report.note(early)
    report.result(output.urls_as_facts(which, urls), output.urls_as_text(urls))
    return 0


def submit(
    env_file: Path | None,
    report: Printer,
    session: str,
    wishes: dict[str, Any],
    *,
    webhook: str | None,
    force: bool,
    progress_file: bool,
    wait: bool,
    timeout_s: float | None,
) -> int:
    """Submit a session, and see it through if asked to."""
    job = submission.check_job_options(wishes)
    edge = Edge.load(env_file)
    if webhook is not None:
        webhook = checked(webhook, edge.settings.runpod_url)
    order = Order(job, webhook, force, report.note, progress_file, follow=wait)
    which = edge.session(session)
    try:
        sub = submission.submit(edge, which, order)
    except KeyboardInterrupt:
        raise _interrupted(which) from None
    except AnswerLost as exc:
        if not wait:
            raise
        report.note(str(exc))
        return _follow(edge, report, which, claim_of(edge, which), timeout_s)
    if wait and sub.claim is not None:
        if not report.as_json:
            report.note(output.submission_as_text(sub))
        return _follow(edge, report, which, sub.claim, timeout_s)
    text = output.submission_as_text(sub)
    if sub.delivered is not None:
        text += "\n" + output.delivered_as_text(edge.bucket.name, which, sub.delivered)
    report.result(output.submission_as_facts(sub), text)
    return 1 if sub.state is State.UNANSWERED else 0


def wait(env_file: Path | None, report: Printer, session: str, timeout_s: float | None) -> int:
    """See through what is out for a session."""
    edge = Edge.load(env_file)
    which = edge.session(session)
    return _follow(edge, report, which, claim_of(edge, which), timeout_s)


def _follow(
    edge: Edge, report: Printer, session: Session, claim: Claim | None, timeout_s: float | None
) -> int:
    try:
        outcome, claim = wait_for_end(
            edge, session, claim, quiet=report.as_json, timeout_s=timeout_s
        )
    except KeyboardInterrupt:
        raise _interrupted(session) from None
    text = output.outcome_as_text(edge.bucket.name, session, outcome)
    report.result(output.outcome_as_facts(session, claim, outcome), text)
    return 0 if outcome.delivered is not None else 1


def _interrupted(session: Session) -> Interrupted:
    return Interrupted(
        f"interrupted; a job that is out goes on: `edge-client wait {session.quoted}` resumes"
    )


def status(env_file: Path | None, report: Printer, what: str) -> int:
    """Print what is known of a session or a job."""
    facts, text = describe(Edge.load(env_file), what)
    report.result(facts, text)
    return 0


def cancel(env_file: Path | None, report: Printer, what: str) -> int:
    """Cancel the job of a session, or a job."""
    edge = Edge.load(env_file)
    job_id = job_to_cancel(edge, what)
    state = edge.api.cancel(job_id).status
    report.result({"job_id": job_id, "state": state.value.lower()}, f"{state.lower()}: {job_id}")
    return 0


def health(env_file: Path | None, report: Printer) -> int:
    """Print the endpoint's counts."""
    counts = Edge.load(env_file, storage=False).api.health()
    report.result(counts, output.health_as_text(counts))
    return 0


def doctor(env_file: Path | None, report: Printer) -> int:
    """Print the checks; 3 if one failed."""
    checks = list(doctor_.run_checks(Edge(load(env_file))))
    ok = all(check.ok for check in checks)
    marks = {True: "✓", False: "✗", None: "-"}
    text = "\n".join(f"{marks[check.ok]} {check.name}: {check.detail}" for check in checks)
    report.result({"ok": ok, "checks": [asdict(check) for check in checks]}, text)
    return 0 if ok else 3


def policy(env_file: Path | None, report: Printer) -> int:
    """Print the IAM policy of these commands."""
    edge = Edge.load(env_file, queue=False)
    document = doctor_.policy(edge.settings.bucket or "", edge.settings.region or "")
    report.result(document, json.dumps(document, indent=2))
    return 0


def render(env_file: Path | None, report: Printer, session: str, form: str) -> int:
    """Print a session's transcript as text."""
    edge = Edge.load(env_file, queue=False)
    which = edge.session(session)
    found = edge.bucket.read(which.result_key)
    if found is None:
        raise TranscriptInvalid(
            f"no transcript of {which} yet: `edge-client submit {which.quoted} --wait`"
        )
    report.result({}, transcripts.FORMATS[form](transcripts.parse(found[0])).rstrip("\n"))
    return 0

"""What the commands do, without their options: `edge_client.cli` has those.

Each takes plain values, prints through a `Report` and returns the exit code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from contract import JobInput, PresignedUrl
from edge_client import doctor as doctor_
from edge_client import lookup, present, signing, submission, transcripts, waiting
from edge_client import policy as policy_
from edge_client import render as render_
from edge_client.claim import Claim
from edge_client.edge import Edge
from edge_client.errors import AnswerLost, BadUsage, Interrupted, TranscriptInvalid
from edge_client.layout import Session
from edge_client.lifetimes import check_expiry
from edge_client.report import Report
from edge_client.settings import load
from edge_client.standing import State
from edge_client.submission import Order
from edge_client.webhook.url import checked

_PLACEHOLDER = PresignedUrl("https://placeholder.invalid/")


def presign(env_file: Path | None, report: Report, session: str, expires_s: int | None) -> int:
    """Print a session's two URLs."""
    edge = Edge.load(env_file, queue=False)
    expires_s = check_expiry(edge.settings.url_expiry_s if expires_s is None else expires_s)
    which = edge.session(session)
    urls = signing.sign(edge.connection, which, expires_s)
    early = signing.early_end(edge.connection, urls.expires_at)
    if early is not None:
        report.note(early)
    report.result(present.urls_as_facts(which, urls), present.urls_as_text(urls))
    return 0


def submit(
    env_file: Path | None,
    report: Report,
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
    job = checked_wishes(wishes)
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
        return _follow(edge, report, which, waiting.claim_of(edge, which), timeout_s)
    if wait and sub.claim is not None:
        if not report.as_json:
            report.note(present.submission_as_text(sub))
        return _follow(edge, report, which, sub.claim, timeout_s)
    text = present.submission_as_text(sub)
    if sub.delivered is not None:
        text += "\n" + present.delivered_as_text(edge.bucket.name, which, sub.delivered)
    report.result(present.submission_as_facts(sub), text)
    return 1 if sub.state is State.UNANSWERED else 0


def checked_wishes(wishes: Mapping[str, Any]) -> JobInput:
    """Hold the options to the contract before anything is asked of S3.

    Raises:
        BadUsage: Naming the option.
    """
    try:
        return JobInput(audio_url=_PLACEHOLDER, **wishes)
    except ValidationError as exc:
        first = exc.errors(include_input=False)[0]
        name = "".join(f"--{str(part).replace('_', '-')}: " for part in first["loc"][:1])
        text = first["msg"].removeprefix("Value error, ")
        if first["loc"] == ("language",):
            text = "give an ISO 639-1 code, two small letters, such as en"
        raise BadUsage(name + text) from None


def wait(env_file: Path | None, report: Report, session: str, timeout_s: float | None) -> int:
    """See through what is out for a session."""
    edge = Edge.load(env_file)
    which = edge.session(session)
    return _follow(edge, report, which, waiting.claim_of(edge, which), timeout_s)


def _follow(
    edge: Edge, report: Report, session: Session, claim: Claim | None, timeout_s: float | None
) -> int:
    try:
        outcome, claim = waiting.wait(
            edge, session, claim, quiet=report.as_json, timeout_s=timeout_s
        )
    except KeyboardInterrupt:
        raise _interrupted(session) from None
    text = present.outcome_as_text(edge.bucket.name, session, outcome)
    report.result(present.outcome_as_facts(session, claim, outcome), text)
    return 0 if outcome.delivered is not None else 1


def _interrupted(session: Session) -> Interrupted:
    return Interrupted(
        f"interrupted; a job that is out goes on: `edge-client wait {session.quoted}` resumes"
    )


def status(env_file: Path | None, report: Report, what: str) -> int:
    """Print what is known of a session or a job."""
    facts, text = lookup.describe(Edge.load(env_file), what)
    report.result(facts, text)
    return 0


def cancel(env_file: Path | None, report: Report, what: str) -> int:
    """Cancel the job of a session, or a job."""
    edge = Edge.load(env_file)
    job_id = lookup.job_to_cancel(edge, what)
    state = edge.api.cancel(job_id).status
    report.result({"job_id": job_id, "state": state.value.lower()}, f"{state.lower()}: {job_id}")
    return 0


def health(env_file: Path | None, report: Report) -> int:
    """Print the endpoint's counts."""
    counts = Edge.load(env_file, storage=False).api.health()
    report.result(counts, present.health_as_text(counts))
    return 0


def doctor(env_file: Path | None, report: Report) -> int:
    """Print the checks; 3 if one failed."""
    checks = list(doctor_.examine(Edge(load(env_file))))
    ok = all(check.ok for check in checks)
    marks = {True: "✓", False: "✗", None: "-"}
    text = "\n".join(f"{marks[check.ok]} {check.name}: {check.detail}" for check in checks)
    report.result({"ok": ok, "checks": [asdict(check) for check in checks]}, text)
    return 0 if ok else 3


def policy(env_file: Path | None, report: Report) -> int:
    """Print the IAM policy of these commands."""
    edge = Edge.load(env_file, queue=False)
    document = policy_.policy(edge.settings.bucket or "", edge.settings.region or "")
    report.result(document, json.dumps(document, indent=2))
    return 0


def render(env_file: Path | None, report: Report, session: str, form: str) -> int:
    """Print a session's transcript as text."""
    edge = Edge.load(env_file, queue=False)
    which = edge.session(session)
    found = edge.bucket.read(which.result_key)
    if found is None:
        raise TranscriptInvalid(
            f"no transcript of {which} yet: `edge-client submit {which.quoted} --wait`"
        )
    report.result({}, render_.FORMATS[form](transcripts.parse(found[0])).rstrip("\n"))
    return 0

"""What is said of a submission's end. Pure: `edge_client.pursuit` decides what is done about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from contract import JobFailure
from edge_client.claim import Claim
from edge_client.recovery import Step
from edge_client.settle import Outcome
from edge_client.verdict import Ending, Result


def dated(outcome: Outcome, claim: Claim, now: datetime) -> Outcome:
    """Tell a job that RunPod forgot too early from one whose time was over."""
    if outcome.ending is not Ending.FORGOTTEN or now < claim.expires_at:
        return outcome
    refused = "nothing is out: RunPod refused the last submission; submit again"
    over = (
        f"the job's time was over at {claim.expires_at:%Y-%m-%d %H:%M} UTC and S3 has no "
        "transcript: `edge-client doctor` tells whether workers come up; then submit again"
    )
    text = refused if claim.was_refused else over
    return replace(outcome, ending=Ending.EXPIRED, message=text)


def said(outcome: Outcome) -> str:
    """Return the end in a few words, with the worker's code where it gave one."""
    cause = outcome.cause
    return f"{cause.code}: {outcome.message}" if isinstance(cause, JobFailure) else outcome.message


def counted(outcome: Outcome, step: Step, submissions: int) -> Outcome:
    """Say how often it was tried, where that is why nothing more is done."""
    if not step.used_up or submissions < 2:
        return outcome
    return replace(outcome, message=f"{outcome.message} (after {submissions} submissions)")


def as_reported(outcome: Outcome, claim: Claim) -> Outcome:
    """Keep to what was said when the claim was closed: RunPod forgets the reason."""
    if claim.ended is None or outcome.ending not in (Ending.FORGOTTEN, Ending.EXPIRED):
        return outcome
    return replace(outcome, result=Result.FAILED, message=claim.ended)

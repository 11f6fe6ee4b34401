"""Results as text for people and as objects for programs, and a job's progress on stderr.

Takes values of `edge_client.jobs`; returns text and JSON-ready dicts. `view_for` chooses how
progress is shown: a live line on a terminal, plain lines elsewhere, nothing with ``--json``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

from edge_client.api import State, Submission
from edge_client.jobs.claim import Claim
from edge_client.jobs.poll import JobProgress, NotesView, View
from edge_client.jobs.reconcile import Done
from edge_client.jobs.retry_policy import Result
from edge_client.jobs.transcript import Delivered
from edge_client.services.presign import SignedUrls
from edge_client.session import Session
from edge_client.text import NOTE_CHARS, safe_line, say

if TYPE_CHECKING:
    from rich.progress import Progress

Facts = dict[str, Any]


def of_urls(session: Session, urls: SignedUrls) -> tuple[Facts, list[str]]:
    """Return the two URLs, and as lines the curl commands that use them as they are."""
    audio_url, result_url = urls.audio_url.reveal(), urls.result_url.reveal()
    headers = (f"{name}: {value}" for name, value in urls.result_headers.items())
    lines = [
        f"# Anyone who has these URLs can use them, until {urls.expires_at:%Y-%m-%d %H:%M:%S} UTC.",
        "# GET the recording:",
        f"curl -f -o audio.wav {shlex.quote(audio_url)}",
        "# PUT the transcript; the headers are part of the signature:",
        f"curl -f -X PUT {' '.join(f'-H {shlex.quote(header)}' for header in headers)} "
        f"--data-binary @transcription.json {shlex.quote(result_url)}",
    ]
    facts = {
        "session": session.prefix,
        "audio_url": audio_url,
        "result_url": result_url,
        "result_headers": urls.result_headers,
        "expires_in": urls.expires_s,
        "expires_at": urls.expires_at.isoformat(),
    }
    return facts, lines


def of_submission(bucket: str, sub: Submission, waits: bool = False) -> tuple[Facts, list[str]]:
    """Return what was submitted, or why nothing was, as an object and as lines.

    They say how to follow it, unless one ``waits``.
    """
    delivered = None if sub.done is None else sub.done.transcript
    facts = {
        "session": sub.session.prefix,
        "state": sub.state.value,
        **_job_facts(sub.claim),
        "summary": None if delivered is None else asdict(delivered),
    }
    if delivered is not None:
        text = f"already done: {sub.session} has a transcript of its recording"
        return facts, [text, *delivered_as_text(bucket, sub.session, delivered)]
    if sub.claim is None:
        why = sub.done.message if sub.done else "no claim"
        return facts, [f"not submitted: {sub.session}: {why}"]
    wait = f"`edge-client wait {sub.session.quoted}`"
    hint = "" if waits else f"; {wait} follows it"
    job, at = sub.claim.job_id, f"{sub.claim.submitted_at:%Y-%m-%d %H:%M:%S} UTC"
    if sub.state is State.SUBMITTED:
        return facts, [f"submitted: job {job} for {sub.session}{hint}"]
    by = f"by {sub.claim.submitted_by or 'an edge box'} at {at}"
    if sub.state is State.ALREADY_SUBMITTED:
        return facts, [f"already submitted: job {job} {by}{hint}"]
    return facts, [
        f"already submitted {by}, but RunPod's answer is not known, so its job may be running; "
        f"{wait} looks for it, and submits again once there certainly is none"
    ]


def of_end(bucket: str, end: Done) -> tuple[Facts, list[str]]:
    """Return how a session ended, and where its transcript is, as an object and as lines."""
    session, claim, outcome, failure = end.session, end.claim, end.outcome, end.outcome.failure
    facts = {
        "session": session.prefix,
        "state": outcome.result.value,
        **_job_facts(claim),
        "message": outcome.message,
        "summary": None if outcome.transcript is None else asdict(outcome.transcript),
        "warning": outcome.warning,
        "submissions": [*(a.ended for a in claim.earlier), outcome.result.value] if claim else [],
        "failure": failure.model_dump(mode="json", exclude_none=True) if failure else None,
    }
    if outcome.result is not Result.DONE or outcome.transcript is None:
        code = f"{failure.code} in {failure.stage}: " if failure is not None else ""
        return facts, [f"{outcome.result}: {session}: {code}{outcome.message}"]
    warning = [f"  warning: {outcome.warning}"] if outcome.warning else []
    told = delivered_as_text(bucket, session, outcome.transcript)
    return facts, [f"done: {session}", *warning, *told]


def delivered_as_text(bucket: str, session: Session, delivered: Delivered) -> list[str]:
    """Return the summary of a transcript, line by line."""
    seconds = delivered.processing_time_seconds
    took = "" if seconds is None else f", in {seconds:,.1f} s"
    language = delivered.language or "no language"
    warnings = [f"  warnings: {', '.join(delivered.warnings)}"] if delivered.warnings else []
    return [
        f"  {delivered.duration_seconds:,.1f} s of audio ({language}){took}",
        f"  {delivered.segments_count:,} segments, {delivered.speakers_count} speakers",
        *warnings,
        f"  s3://{bucket}/{session.result_key} ({delivered.bytes:,} bytes)",
        f"  read it: edge-client render {session.quoted} --format txt",
    ]


def _job_facts(claim: Claim | None) -> Facts:
    names = ("job_id", "request_id", "submitted_at", "expires_at")
    if claim is None:
        return dict.fromkeys(names)
    return claim.model_dump(mode="json", include=set(names))


class PlainView(NotesView):
    """A line whenever the state, the stage or the next ten percent changes."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(partial(say, stream=stream))
        self._last: object = None

    def show(self, seen: JobProgress) -> None:
        """Print a line if there is news."""
        step = None if seen.percent is None else int(seen.percent // 10)
        key = (seen.state, seen.stage, step)
        if key != self._last:
            self._last = key
            self.note(progress_as_text(seen))


class LiveView:
    """One line that stays in place: spinner, stage, bar, percent, time gone and left."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("submitted", total=None, left="")

    def show(self, seen: JobProgress) -> None:
        """Update the line. Without a percentage the bar only pulses, in the end it is full."""
        percent = 100 if seen.is_final else seen.percent
        self._progress.update(
            self._task,
            description=seen.stage or seen.state,
            total=None if percent is None else 100,
            completed=percent or 0,
            left="" if seen.left_s is None else remaining(seen.left_s),
        )

    def note(self, message: str) -> None:
        """Print one line above the live one."""
        line = safe_line(message, NOTE_CHARS)
        self._progress.console.print(line, markup=False, highlight=False)


def progress_as_text(seen: JobProgress) -> str:
    """Return a state as a short plain line, such as ``transcribe 40 %``."""
    percent = "" if seen.percent is None else f" {seen.percent:.0f} %"
    left = "" if seen.left_s is None else f", {remaining(seen.left_s)}"
    return f"{seen.stage or seen.state}{percent}{left}"


def remaining(left_s: float) -> str:
    """Return an estimate as coarsely as it is known, such as ``about 12 min left``."""
    if left_s < 55:
        return f"about {max(5, 5 * round(left_s / 5))} s left"
    if left_s < 5400:
        return f"about {max(1, round(left_s / 60))} min left"
    return f"about {left_s / 3600:.1f} h left"


@contextmanager
def upload_bar(json: bool, size: int) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how far an upload is, as it is told; elsewhere nothing."""
    if json or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Speed

    columns = ("upload", BarColumn(bar_width=30), DownloadColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield partial(progress.advance, progress.add_task("", total=size))


@contextmanager
def view_for(json: bool, stream: TextIO | None = None) -> Iterator[View]:
    """Show progress on a stream, stderr if None; with ``json`` a program reads the output."""
    stream = stream or sys.stderr
    if json:
        yield NotesView(partial(say, stream=stream))
    elif stream.isatty():
        from rich.console import Console  # rich costs 0.1 s: only who has a terminal pays
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        with Progress(*columns, console=Console(file=stream), transient=True) as progress:
            yield LiveView(progress)
    else:
        yield PlainView(stream)

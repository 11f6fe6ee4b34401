"""``list``, ``status`` and ``export``: which sessions there are, their ends, and their files.

`list_sessions` takes what the bucket's listing tells, with ``details`` what claims and transcripts
say, a few at a time; `status` asks RunPod, too. A file that `export` writes, under another name
first, has its transcript's time in S3, so a listing alone tells which are due.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from rich.filesize import decimal as size_text

from bucketscribe_contract import JobStatus, JobSummary
from bucketscribe_render.cues import Layout
from bucketscribe_render.formats import FORMATS
from bucketscribe_render.words import clock_time
from edge_client.batch import listing
from edge_client.batch.plan import from_listing
from edge_client.batch.run import choose
from edge_client.batch.types import Filter, ListedSession
from edge_client.commands import session_or_job, source_of, writing
from edge_client.errors import EdgeError, ObjectRefused, SessionNotFound
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim
from edge_client.jobs.outcome import classify_status, resolve_outcome
from edge_client.jobs.poll import progress_of
from edge_client.jobs.retry_policy import split_end
from edge_client.jobs.submit import ask, check_endpoint
from edge_client.jobs.transcript import UNPROVEN_WHY, Match, StoredTranscript, is_same, match
from edge_client.output import Facts, progress_as_text
from edge_client.services.edge import Edge
from edge_client.session import file_name
from edge_client.text import Printer, end_of, safe_line, session_count, visible

_MOMENT = "%Y-%m-%d %H:%M"


class State(StrEnum):
    """What became of a session; a batch's words where it has them."""

    DONE = "done"
    IN_FLIGHT = "in_flight"
    FAILED = "failed"
    REFUSED = "refused"
    NEW = "new"
    OUTDATED = "outdated"
    UNPROVEN = "unproven"
    NOT_MERGED = "not_merged"
    NO_AUDIO = "no_audio"


EXIT_CODES = {State.DONE: 0, State.FAILED: 1, State.REFUSED: 1, State.IN_FLIGHT: 4}


@dataclass(frozen=True, slots=True)
class Found:
    """A session, and what became of it; claim and transcript where they were read.

    ``code`` is of a failure: the worker's, or how the job ended; ``message`` is for people.
    """

    listed: ListedSession
    state: State
    code: str | None = None
    message: str | None = None
    claim: Claim | None = None
    stored: StoredTranscript | None = None

    def facts(self) -> Facts:
        """Return it for programs."""
        audio, delivered = self.listed.audio, self.stored and self.stored.delivered
        return {
            "session": self.listed.session.prefix,
            "state": self.state.value,
            "code": self.code,
            "message": self.message,
            "recorded_at": audio and audio.modified_at.isoformat(),
            "audio_bytes": audio and audio.size_bytes,
            "summary": delivered and asdict(delivered),
        }


def by_listing(listed: ListedSession) -> Found:
    """Tell what became of a session from its listing alone; times decide, and the claim's size."""
    planned = from_listing(listed, Filter())
    if planned is not None and not planned.action.is_work:
        return Found(listed, State(planned.action))
    audio, claim, transcript = listed.audio, listed.claim, listed.transcript
    undone = State.OUTDATED if listed.has_transcript else State.NEW
    if audio is None or claim is None or claim.modified_at < audio.modified_at:
        return Found(listed, undone)
    is_later = transcript is not None and transcript.modified_at >= claim.modified_at
    units, more_bytes = divmod(claim.size_bytes, claims.OPEN_BYTES)
    if units and not more_bytes and not is_later:
        return Found(listed, State.IN_FLIGHT)
    if listed.is_fresh:
        return Found(listed, State.DONE)
    return Found(listed, State.FAILED if units and more_bytes == claims.FAILED_BYTES else undone)


def by_documents(edge: Edge, listed: ListedSession) -> Found:
    """Read a session's claim and transcript, and tell what became of it."""
    try:
        claim = claims.current(edge.bucket, listed.session) if listed.claim else None
        stored = transcripts.read(edge.bucket, listed.session) if listed.transcript else None
    except ObjectRefused as exc:
        return Found(listed, State.REFUSED, exc.code, str(exc))
    found = partial(Found, listed, claim=claim, stored=stored)
    audio, matched = listed.audio, match(listed.audio, claim, stored)
    is_open = claim is not None and claim.is_open(edge.clock.now())
    if claim is not None and is_open and (stored is None or stored.request_id != claim.request_id):
        return found(State.IN_FLIGHT)
    if matched.is_done:
        return found(State.DONE)
    if audio is None or not audio.size_bytes:
        return found(by_listing(listed).state)
    is_its = claim is not None and is_same(claim.audio_etag, audio.etag)
    if claim is not None and is_its and claim.ended != claims.DONE and not claim.was_refused:
        text = f"expired: its job expired at {claim.expires_at:{_MOMENT}} UTC"
        return found(State.FAILED, *split_end(claim.ended or text))
    why = UNPROVEN_WHY if matched is Match.UNPROVEN else None
    return found(State.NEW if matched is Match.ABSENT else State(matched), message=why)


def list_sessions(
    env_file: Path | None, printer: Printer, limit: int | None, details: bool, **which: Any
) -> int:
    """Print a line or an object for each session, as the listing comes."""
    edge = Edge.load(env_file, queue=False)
    chosen = choose(edge, **which)
    table = _Table(edge, chosen, details, sys.stdout.isatty() and not printer.as_json)
    counts = Counter[State]()
    with closing(listing.list_sessions(edge.bucket, chosen)) as listed:
        first = islice(listed, limit)
        found = (partial(by_documents, edge, e) if details else by_listing(e) for e in first)
        for each in listing.in_order(found):
            if not counts and not printer.as_json:
                printer.text(table.header)
            counts[each.state] += 1
            printer.result(each.facts(), *table.lines(each))
    told = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
    printer.note(f"{session_count(counts.total())}: {told}" if counts else "no sessions")
    return 0


_COLUMNS = {"state": ("<10", 0), "recorded (UTC)": ("<16", 75), "size": (">9", 57)}
_DETAILED = {"state": ("<10", 0), "recorded (UTC)": ("<16", 102), "size": (">9", 84)}
_DETAILED |= {"length": (">9", 57), "speakers": (">8", 67), "lang": ("<4", 73)}
"""Format, and from what width of the terminal on a column is there: a session's 34 come first."""


class _Table:
    """Lines of columns. Names are last: a terminal shows their ends, a pipe gets whole prefixes."""

    def __init__(self, edge: Edge, chosen: Filter, details: bool, is_terminal: bool) -> None:
        self._details, self._room, self._has_users = details, 0, False
        columns, width = _DETAILED if details else _COLUMNS, 1000
        if is_terminal:
            users = {session.user for session in chosen.sessions} or {chosen.user} - {None}
            self._has_users = len(users or set(islice(edge.users(), 2))) > 1
            width = shutil.get_terminal_size().columns
        self._columns = {name: form for name, (form, least) in columns.items() if width >= least}
        if is_terminal:
            self._room = max(1, width - sum(2 + int(form[1:]) for form in self._columns.values()))
        titles = {name: name for name in self._columns}
        self.header = self._line(titles, "user/session" if self._has_users else "session")

    def lines(self, found: Found) -> list[str]:
        """Return a session's line, and below it what is wrong with it."""
        audio, session = found.listed.audio, found.listed.session
        name = f"{f'{session.user}/' if self._has_users else ''}{session.name}"
        cells = {"state": found.state.replace("_", " ")}
        below = [": ".join(filter(None, (found.code, found.message)))]
        if audio is not None:
            cells["recorded (UTC)"] = f"{audio.modified_at:{_MOMENT}}"
            cells["size"] = size_text(audio.size_bytes)
        if found.stored is not None and (delivered := found.stored.delivered) is not None:
            cells["length"] = clock_time(delivered.duration_seconds)
            cells["speakers"] = str(delivered.speakers_count)
            cells["lang"] = delivered.language or ""
            below += delivered.warnings
        line = self._line(cells, name if self._room else session.prefix)
        return [line, *(f"  {safe_line(text)}" for text in below if text and self._details)]

    def _line(self, cells: Mapping[str, str], name: str) -> str:
        shown = (f"{visible(cells.get(each, '')):{form}}" for each, form in self._columns.items())
        name = visible(name)
        return "  ".join([*shown, end_of(name, self._room) if self._room else name])


def status(env_file: Path | None, printer: Printer, what: str) -> int:
    """Print what is known of a session or a job; return its state's exit code."""
    facts, lines = describe(Edge.load(env_file), what)
    printer.result(facts, *lines)
    return EXIT_CODES.get(facts["state"], 5)


def describe(edge: Edge, what: str) -> tuple[Facts, list[str]]:
    """Describe a session or a job, as facts and lines; raises `SessionNotFound` if it is none."""
    session = session_or_job(edge, what)
    if session is not None:
        chosen = Filter(sessions=(session,))
        (listed,) = listing.list_sessions(edge.bucket, chosen)
        found, job, text = _with_job(edge, by_documents(edge, listed))
        matched = match(listed.audio, found.claim, found.stored)
        facts = found.facts() | {"done": matched.is_done, "transcript": matched.value} | job
        table = _Table(edge, chosen, details=True, is_terminal=False)
        return facts, [table.header, *table.lines(found), f"  {text}"]
    status = ask(edge, what)
    if status is None:
        forgets = "it forgets jobs 30 minutes after their end"
        text = f"no session has this name, and RunPod has no such job ({forgets})"
        raise SessionNotFound(f"{what}: {text}")
    facts, text = _describe_job(status)
    state, ended = State.IN_FLIGHT, classify_status(status)
    if status.status.is_final:
        state = State.DONE if isinstance(ended, JobSummary) else State.FAILED
        facts["code"] = getattr(ended, "code", None)
        facts["message"] = getattr(ended, "message", None)
    told = f"{text}: {facts['message']}" if facts.get("message") else text
    return {"state": state.value, "code": None, "message": None, **facts}, [told]


def _describe_job(status: JobStatus) -> tuple[Facts, str]:
    seen = progress_of(status)
    facts: Facts = {
        "job_id": status.id,
        "job_state": status.status.value.lower(),
        "stage": seen.stage,
        "percent": seen.percent,
    }
    return facts, f"job {status.id}: {progress_as_text(seen)}"


def _with_job(edge: Edge, found: Found) -> tuple[Found, Facts, str]:
    """Add what RunPod knows of the job that a session's claim names."""
    claim, session = found.claim, found.listed.session
    if claim is None:
        return found, {"job_id": None, "job_state": None}, "no job was submitted"
    names = ("job_id", "submitted_at", "submitted_by", "expires_at", "ended")
    facts = claim.model_dump(mode="json", include=set(names)) | {"submission": claim.submissions}
    at = f"submitted {claim.submitted_at:{_MOMENT}} UTC"
    if claim.ended is not None or found.state is State.DONE:
        return found, facts | {"job_state": "ended"}, f"job {claim.job_id}, {at}: ended"
    if claim.job_id is None:
        return found, facts | {"job_state": "unknown"}, f"{at}: the answer is not known"
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id)
    if status is None:
        text = f"job {claim.job_id}, {at}: forgotten by RunPod"
        return found, facts | {"job_state": "forgotten"}, text
    job, text = _describe_job(status)
    if status.status.is_final and found.state in (State.IN_FLIGHT, State.FAILED):
        outcome = resolve_outcome(edge.bucket, session, claim, status)
        state = State.FAILED if outcome.transcript is None else State.DONE
        found = replace(found, state=state, code=outcome.code, message=outcome.message)
    return found, facts | job, text


def export(
    env_file: Path | None,
    printer: Printer,
    limit: int | None,
    forms: Sequence[str],
    output_dir: Path,
    line_width: int,
    lines: int,
    **which: Any,
) -> int:
    """Write what is due, and print each file, or an object for each session; 1 if any failed."""
    edge = Edge.load(env_file, queue=False)
    chosen = choose(edge, **which)
    one = partial(_export, edge, dict.fromkeys(forms), output_dir, Layout(line_width, lines))
    counts = Counter(exported=0, unchanged=0, failed=0)
    with closing(listing.list_sessions(edge.bucket, chosen)) as listed:
        wanted = islice((e for e in listed if e.has_transcript or chosen.sessions), limit)
        work: Iterable[Facts | partial[Facts]] = (partial(one, each) for each in wanted)
        for facts in listing.in_order(work):
            counts[facts["result"]] += 1
            if printer.as_json or facts["files"]:
                printer.result(facts, *facts["files"])
            elif "code" in facts:
                printer.note("failed: {session}: {code}: {message}".format_map(facts))
    told = ", ".join(f"{count:,} {result}" for result, count in counts.items())
    printer.note(f"{session_count(counts.total())}: {told}")
    return 1 if counts["failed"] else 0


def _export(
    edge: Edge, forms: Iterable[str], folder: Path, layout: Layout, listed: ListedSession
) -> Facts:
    """Write the files that are not there, or are older than the transcript."""
    session, stored = listed.session, listed.transcript
    at_s = 0 if stored is None else int(stored.modified_at.timestamp())
    place = folder.joinpath(*map(file_name, session.path))
    paths = {form: place.with_name(f"{place.name}.{form}") for form in forms}
    facts: Facts = {"session": session.prefix, "result": "unchanged", "files": []}
    try:
        with writing("--output-dir", place):
            times = {form: path.stat().st_mtime for form, path in paths.items() if path.exists()}
        due = [form for form in forms if times.get(form, -1) < at_s]
        if due or stored is None:
            source = source_of(edge, session, layout)
            for form in due:
                text, path = FORMATS[form](source).rstrip("\n") + "\n", paths[form]
                part = path.with_name(f".{path.name}.part")
                with writing("--output-dir", path):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    part.write_text(text, encoding="utf-8", newline="\n")
                    os.utime(part, (at_s, at_s))
                    part.replace(path)
            facts |= {"result": "exported", "files": [str(paths[form]) for form in due]}
    except EdgeError as exc:
        if exc.exit_code > 1:  # it concerns all sessions
            raise
        facts |= {"result": "failed", "code": exc.code, "message": str(exc)}
    return facts

"""``list`` and ``status``: which sessions there are, and what became of each.

`list_sessions` takes what the bucket's listing tells, with ``details`` what claims and transcripts
say, a few at a time; `status` asks RunPod, too. A line or an object is printed for each session.
"""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from pathlib import Path

from rich.filesize import decimal as size_text

from bucketscribe_contract import JobFailure, JobStatus, JobSummary, UploadFailed
from bucketscribe_render.words import clock_time
from edge_client.batch import listing
from edge_client.batch.plan import DONE, from_listing
from edge_client.batch.run import choose
from edge_client.batch.types import Filter, ListedSession, PlannedAction
from edge_client.commands import session_or_job
from edge_client.errors import ObjectRefused, SessionNotFound
from edge_client.jobs import claim as claims
from edge_client.jobs import transcript as transcripts
from edge_client.jobs.claim import Claim
from edge_client.jobs.done import UNPROVEN_WHY, Match, is_same, match
from edge_client.jobs.outcome import resolve_outcome
from edge_client.jobs.poll import progress_of
from edge_client.jobs.retry_policy import Ending, cause_name, classify_status, split_end
from edge_client.jobs.submit import ask, check_endpoint
from edge_client.jobs.transcript import Delivered, StoredTranscript
from edge_client.output import Facts, progress_as_text
from edge_client.services.edge import Edge
from edge_client.session import USERS
from edge_client.text import Printer, end_of, safe_line, visible

_MOMENT = "%Y-%m-%d %H:%M"
_MATCHES = {
    Match.REPLACED: "another program wrote its transcript",
    Match.UNPROVEN: UNPROVEN_WHY,
    Match.OUTDATED: "its transcript is of an earlier recording",
}


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

    @property
    def exit_code(self) -> int:
        """What `status` exits with: 5 where no job of the recording was submitted."""
        return {State.DONE: 0, State.FAILED: 1, State.REFUSED: 1, State.IN_FLIGHT: 4}.get(self, 5)


@dataclass(frozen=True, slots=True)
class Found:
    """A session, and what became of it.

    Attributes:
        code: Of a failure: the worker's, or how the job ended.
        message: One line for people.
        claim: Where it was read, as ``stored``.
    """

    listed: ListedSession
    state: State
    code: str | None = None
    message: str | None = None
    claim: Claim | None = None
    stored: StoredTranscript | None = None

    @property
    def delivered(self) -> Delivered | None:
        """What the transcript amounts to."""
        return None if self.stored is None else self.stored.delivered

    def facts(self) -> Facts:
        """Return it for programs."""
        audio, delivered = self.listed.audio, self.delivered
        return {
            "session": self.listed.session.prefix,
            "state": self.state.value,
            "code": self.code,
            "message": self.message,
            "recorded_at": None if audio is None else audio.modified_at.isoformat(),
            "audio_bytes": None if audio is None else audio.size_bytes,
            "summary": None if delivered is None else asdict(delivered),
        }


def by_listing(listed: ListedSession) -> Found:
    """Tell what became of a session from its listing alone; times decide, and the claim's size."""
    planned = from_listing(listed, Filter())
    if planned is not None and planned.action is not PlannedAction.SUBMIT:
        return Found(
            listed, State(planned.action), message=None if planned.why == DONE else planned.why
        )
    audio, claim, transcript = listed.audio, listed.claim, listed.transcript
    undone = State.OUTDATED if listed.has_transcript else State.NEW
    if audio is None or claim is None or claim.modified_at < audio.modified_at:
        return Found(listed, undone)
    is_later = transcript is not None and transcript.modified_at >= claim.modified_at
    excess_bytes = claim.size_bytes % claims.OPEN_BYTES
    if claim.size_bytes >= claims.OPEN_BYTES and not excess_bytes and not is_later:
        return Found(listed, State.IN_FLIGHT)
    if listed.is_fresh:
        return Found(listed, State.DONE)
    has_failed = claim.size_bytes > claims.OPEN_BYTES and excess_bytes == claims.FAILED_BYTES
    return Found(listed, State.FAILED if has_failed else undone)


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
        return found(State.DONE, message=_MATCHES.get(matched))
    if audio is None or not audio.size_bytes:
        return replace(by_listing(listed), claim=claim, stored=stored)
    is_its = claim is not None and is_same(claim.audio_etag, audio.etag)
    if claim is not None and is_its and claim.ended != claims.DONE and not claim.was_refused:
        text = f"{Ending.EXPIRED}: its job expired at {claim.expires_at:{_MOMENT}} UTC"
        return found(State.FAILED, *split_end(claim.ended or text))
    state = State.NEW if matched is Match.ABSENT else State(matched)
    return found(state, message=_MATCHES.get(matched))


def list_sessions(
    env_file: Path | None,
    printer: Printer,
    sessions: tuple[str, ...],
    user: str | None,
    since: str | None,
    limit: int | None,
    details: bool,
) -> int:
    """Print a line for each session, as the listing comes."""
    edge = Edge.load(env_file, queue=False)
    chosen = choose(edge, sessions, user, since)
    look = partial(by_documents, edge)
    is_shown = sys.stdout.isatty() and not printer.as_json
    table, counts = _Table(details, is_shown and _has_users(edge, chosen)), Counter[State]()
    with closing(listing.list_sessions(edge.bucket, chosen)) as listed:
        found = (partial(look, e) if details else by_listing(e) for e in islice(listed, limit))
        with closing(listing.in_order(found)) as ready:
            for each in ready:
                if not counts and not printer.as_json:
                    printer.text(table.header)
                counts[each.state] += 1
                printer.result(each.facts(), *table.lines(each))
    told = ", ".join(f"{count:,} {state.replace('_', ' ')}" for state, count in counts.items())
    printer.note(f"{counts.total():,} sessions: {told}" if counts else "no sessions")
    return 0


def _has_users(edge: Edge, chosen: Filter) -> bool:
    """Tell whether the sessions may be of several users."""
    users: Iterable[str] = {session.user for session in chosen.sessions}
    if chosen.user is None and not chosen.sessions:
        users = islice(edge.bucket.folders(USERS), 2)
    return len(list(users)) > 1


_COLUMNS = {"state": "<10", "recorded (UTC)": "<16", "size": ">9"}
_DETAILS = {"length": ">9", "who": ">3", "lang": "<4"}
_SPARE = ("recorded (UTC)", "size", "lang", "who", "length")
"""What a narrow terminal does without, in this order, until a name has `LEAST_ROOM`."""
LEAST_ROOM = 34


class _Table:
    """Lines of columns. Names are last: a terminal shows their ends, a pipe gets whole prefixes."""

    def __init__(self, details: bool, has_users: bool) -> None:
        self._details, self._has_users = details, has_users
        self._columns, self._room = _COLUMNS | (_DETAILS if details else {}), 0
        for spare in _SPARE if sys.stdout.isatty() else ():
            taken = sum(2 + int(width[1:]) for width in self._columns.values())
            self._room = max(shutil.get_terminal_size().columns - taken, 1)
            if self._room >= LEAST_ROOM:
                break
            self._columns.pop(spare, None)
        name = "user/session" if has_users and self._room else "session"
        self.header = self._line({column: column for column in self._columns}, name)

    def lines(self, found: Found) -> list[str]:
        """Return a session's line, and below it what is wrong with it."""
        audio, delivered, session = found.listed.audio, found.delivered, found.listed.session
        cells = {"state": found.state.replace("_", " ")}
        if audio is not None:
            cells["recorded (UTC)"] = f"{audio.modified_at:{_MOMENT}}"
            cells["size"] = size_text(audio.size_bytes)
        if delivered is not None:
            cells["length"] = clock_time(delivered.duration_seconds)
            cells["who"], cells["lang"] = str(delivered.speakers_count), delivered.language or ""
        name = session.prefix if not self._room else session.name
        line = self._line(cells, session.short if self._room and self._has_users else name)
        if not self._details:
            return [line]
        told = ": ".join(filter(None, (found.code, found.message)))
        warnings = () if delivered is None else delivered.warnings
        return [line, *(f"  {safe_line(text)}" for text in (told, *warnings) if text)]

    def _line(self, cells: Mapping[str, str], name: str) -> str:
        shown = (f"{visible(cells.get(each, '')):{width}}" for each, width in self._columns.items())
        name = visible(name)
        return "  ".join([*shown, end_of(name, self._room) if self._room else name])


def status(env_file: Path | None, printer: Printer, what: str) -> int:
    """Print what is known of a session or a job; return its state's exit code."""
    state, facts, lines = describe(Edge.load(env_file), what)
    printer.result(facts, *lines)
    return state.exit_code


def describe(edge: Edge, what: str) -> tuple[State, Facts, list[str]]:
    """Describe a session or a job: state, facts, lines; raises `SessionNotFound` if it is none."""
    session = session_or_job(edge, what)
    if session is not None:
        (listed,) = listing.list_sessions(edge.bucket, Filter(sessions=(session,)))
        return _describe_session(edge, by_documents(edge, listed))
    status = ask(edge, what)
    if status is None:
        forgets = "it forgets jobs 30 minutes after their end"
        text = f"no session has this name, and RunPod has no such job ({forgets})"
        raise SessionNotFound(f"{what}: {text}")
    state, code, message = _end_of(status)
    facts, text = _describe_job(status)
    head = f"{text}: {message}" if message else text
    return state, {"state": state.value, "code": code, "message": message, **facts}, [head]


def _end_of(status: JobStatus) -> tuple[State, str | None, str | None]:
    """Return how a job ended by RunPod alone, if it did."""
    if not status.status.is_final:
        return State.IN_FLIGHT, None, None
    ended = classify_status(status)
    if isinstance(ended, JobSummary):
        return State.DONE, None, None
    if isinstance(ended, UploadFailed):
        return State.FAILED, Ending.UNDELIVERED, ended.failure.message
    code = cause_name(ended if isinstance(ended, JobFailure) else ended.ending)
    return State.FAILED, code, ended.message


def _describe_job(status: JobStatus) -> tuple[Facts, str]:
    seen = progress_of(status)
    facts: Facts = {
        "job_id": status.id,
        "job_state": status.status.value.lower(),
        "stage": seen.stage,
        "percent": seen.percent,
    }
    return facts, f"job {status.id}: {progress_as_text(seen)}"


def _describe_session(edge: Edge, found: Found) -> tuple[State, Facts, list[str]]:
    matched = match(found.listed.audio, found.claim, found.stored)
    found, job, job_text = _with_job(edge, found)
    facts = found.facts() | {"done": matched.is_done, "transcript": matched.value} | job
    audio, delivered = found.listed.audio, found.delivered
    code = f": {found.code}" if found.code else ""
    lines = [f"{found.listed.session}: {found.state.replace('_', ' ')}{code}"]
    lines += [f"  {found.message}"] if found.message else []
    if audio is not None:
        at = f"{audio.modified_at:{_MOMENT}} UTC"
        lines.append(f"  recording: {audio.size_bytes:,} bytes, {at}")
    if delivered is not None:
        counts = f"{delivered.speakers_count} speakers, {delivered.segments_count:,} segments"
        length = clock_time(delivered.duration_seconds)
        lines.append(f"  transcript: {length}, {delivered.language or 'no language'}, {counts}")
        lines += [f"  warning: {warning}" for warning in delivered.warnings]
    return found.state, facts, [*lines, f"  {job_text}"]


def _with_job(edge: Edge, found: Found) -> tuple[Found, Facts, str]:
    """Add what RunPod knows of the job that a session's claim names."""
    claim, session = found.claim, found.listed.session
    if claim is None:
        return found, {"job_id": None, "job_state": None}, "no job was submitted"
    facts: Facts = {
        "job_id": claim.job_id,
        "submitted_at": claim.submitted_at.isoformat(),
        "submitted_by": claim.submitted_by,
        "expires_at": claim.expires_at.isoformat(),
        "submission": claim.submissions,
        "ended": claim.ended,
    }
    at = f"submitted {claim.submitted_at:{_MOMENT}} UTC"
    if claim.ended is not None or found.state is State.DONE:
        return found, facts | {"job_state": "ended"}, f"job {claim.job_id}, {at}: ended"
    if claim.job_id is None:
        return found, facts | {"job_state": "unknown"}, f"{at}: the answer is not known"
    check_endpoint(edge, session, claim)
    status = ask(edge, claim.job_id)
    if status is None:
        forgotten = f"job {claim.job_id}, {at}: forgotten by RunPod"
        return found, facts | {"job_state": "forgotten"}, forgotten
    job, text = _describe_job(status)
    if status.status.is_final and found.state in (State.IN_FLIGHT, State.FAILED):
        outcome = resolve_outcome(edge.bucket, session, claim, status)
        state = State.FAILED if outcome.transcript is None else State.DONE
        found = replace(found, state=state, code=outcome.code, message=outcome.message)
    return found, facts | job, text

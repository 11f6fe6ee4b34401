"""What the commands do, without their options: `edge_client.cli` has those.

Each takes plain values, prints through a `Printer` and returns the exit code; `EdgeError`s pass.
"""

from __future__ import annotations

import json
import re
import shlex
import tempfile
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bucketscribe_render.cues import Layout
from bucketscribe_render.formats import FORMATS, Source
from edge_client import api, errors, output
from edge_client import doctor as doctor_
from edge_client.api import Submission
from edge_client.jobs import claim as claims
from edge_client.jobs.submit import check_endpoint
from edge_client.jobs.transcript import parse
from edge_client.services.edge import Edge
from edge_client.services.presign import early_end
from edge_client.services.upload import destination, upload
from edge_client.session import Session, file_name
from edge_client.settings import load
from edge_client.text import Printer, visible


def presign(env_file: Path | None, printer: Printer, session: str, expires_s: int | None) -> int:
    """Print a session's two URLs."""
    edge = Edge.load(env_file, queue=False)
    which = edge.session(session)
    urls = api.sign(edge, which, expires_s)
    early = early_end(edge.connection, urls.expires_at)
    if early is not None:
        printer.note(early)
    facts, lines = output.of_urls(which, urls)
    printer.result(facts, *lines, reveals=True)
    return 0


def submit(
    env_file: Path | None,
    printer: Printer,
    session: str,
    user: str | None,
    name: str | None,
    wait: bool,
    timeout_s: float | None,
    force: bool,
    **options: Any,
) -> int:
    """Submit a session or a file, and follow its job if asked to; options as `api.submit` has."""
    if timeout_s is not None and not wait:
        raise errors.BadUsage("--timeout says how long to --wait: give both")
    edge = Edge.load(env_file)
    api.check(edge, **options)  # before anything is sent
    which = _recording(edge, printer, session, user, name)
    with _interruptible(str(which)):
        sub = api.submit(edge, which, say=printer.note, force=force, **options)
    facts, lines = output.of_submission(edge.bucket.name, sub, waits=wait)
    if wait and sub.claim is not None:
        if not printer.as_json:
            printer.note(lines[0])
        return _follow(edge, printer, sub, timeout_s)
    printer.result(facts, *lines)
    is_well = (
        sub.claim.job_id is not None if sub.claim is not None else facts["summary"] is not None
    )
    return 0 if is_well else 1


def _recording(
    edge: Edge, printer: Printer, what: str, user: str | None, name: str | None
) -> Session | str:
    """Return ``what``, unless it is a file: that is uploaded, and its session returned."""
    path = Path(what)
    try:
        size = path.stat().st_size if path.is_file() else None
    except OSError:  # no file's name is so long
        size = None
    if size is None:
        if user is not None or name is not None:
            text = f"--user and --session say where a file goes, and {what!r} is none"
            raise errors.BadUsage(text)
        return what
    which = destination(edge, path, user, name)
    called = f"--user {which.user} " if which.user else ""
    place = f"s3://{edge.bucket.name}/{which.audio_key}"
    printer.note(f"{path} goes to {place} ({called}--session {which.name})")
    again = "the same command sends what is missing"
    try:
        with output.upload_bar(printer.as_json, size) as moved:
            is_new = upload(edge, path, which, moved)
    except KeyboardInterrupt:
        raise errors.Interrupted(f"interrupted: {again}") from None
    except errors.Unreachable as exc:
        raise errors.Unreachable(f"{exc}; {again}") from exc
    printer.note("uploaded" if is_new else "it is there already: nothing was sent")
    return which


def wait(env_file: Path | None, printer: Printer, session: str, timeout_s: float | None) -> int:
    """Follow what is in flight for a session."""
    edge = Edge.load(env_file)
    return _follow(edge, printer, edge.session(session), timeout_s)


def _follow(
    edge: Edge, printer: Printer, what: Session | Submission, timeout_s: float | None
) -> int:
    session = what.session if isinstance(what, Submission) else what
    with _interruptible(session.prefix), output.view_for(printer.as_json) as view:
        end = api.wait(edge, what, timeout_s=timeout_s, view=view)
    facts, lines = output.of_end(edge.bucket.name, end)
    printer.result(facts, *lines)
    return 0 if end.outcome.transcript is not None else 1


@contextmanager
def _interruptible(session: str) -> Iterator[None]:
    """Have Ctrl-C say how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        remedy = f"`edge-client wait {shlex.quote(session)}` resumes"
        raise errors.Interrupted(f"interrupted; a job in flight goes on: {remedy}") from None


def cancel(env_file: Path | None, printer: Printer, what: str) -> int:
    """Cancel the job of a session, or a job."""
    edge = Edge.load(env_file)
    job_id = job_to_cancel(edge, what)
    state = edge.api.cancel(job_id).status
    printer.result({"job_id": job_id, "state": state.value.lower()}, f"{state.lower()}: {job_id}")
    return 0


def health(env_file: Path | None, printer: Printer) -> int:
    """Print the endpoint's counts."""
    health = Edge.load(env_file, storage=False).api.health()
    lines = [
        f"{kind}: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
        for kind in ("workers", "jobs")
        if isinstance(counts := health.get(kind), Mapping)
    ]
    printer.result(health, *lines)
    return 0


def doctor(env_file: Path | None, printer: Printer) -> int:
    """Print the checks; 3 if one failed."""
    checks = list(doctor_.run_checks(Edge(load(env_file))))
    ok = all(check.ok for check in checks)
    marks = {True: "✓", False: "✗", None: "-"}
    lines = (f"{marks[check.ok]} {check.name}: {check.detail}" for check in checks)
    printer.result({"ok": ok, "checks": [asdict(check) for check in checks]}, *lines)
    return 0 if ok else 3


def policy(env_file: Path | None, printer: Printer, with_upload: bool) -> int:
    """Print the IAM policy of these commands."""
    settings = Edge.load(env_file, queue=False).settings
    bucket, region, recordings = settings.bucket or "", settings.region or "", settings.recordings
    document = doctor_.policy(bucket, region, recordings, with_upload=with_upload)
    printer.result(document, *json.dumps(document, indent=2).split("\n"))
    return 0


def render(
    env_file: Path | None,
    printer: Printer,
    session: str,
    form: str,
    line_width: int,
    lines: int,
    output: Path | None,
) -> int:
    """Print a session's transcript in one of `FORMATS`, or write it to a file."""
    edge = Edge.load(env_file, queue=False)
    which = edge.session(session)
    source = source_of(edge, which, Layout(line_width, lines))
    text = FORMATS[form](source).rstrip("\n")
    if output is None:
        printer.text(text)
    else:
        with writing("--output", output):
            output.write_text(f"{text}\n", encoding="utf-8", newline="\n")
    return 0


def source_of(edge: Edge, session: Session, layout: Layout) -> Source:
    """Read a session's transcript, with its speakers' names, as what the formats take."""
    body, _ = api.read_stored(edge, session)
    return Source(parse(body, session.result_key), body, session.name, layout)


def view(
    env_file: Path | None,
    printer: Printer,
    session: str,
    into: Path | None,
    opens: bool,
    link: bool,
) -> int:
    """Write a session's page into a file, and open it."""
    edge = Edge.load(env_file, queue=False)
    which = edge.session(session)
    page = api.make_page(edge, which, link=link)
    path = into or Path(tempfile.mkdtemp(prefix="edge-client-"))
    if path.is_dir():
        path /= f"{file_name(which.name)}.html"
    with writing("--output", path):
        path.touch(0o600)
        path.write_text(page, encoding="utf-8", newline="\n")
    if link:
        printer.note("whoever has the page can hear the recording until its link ends")
    if opens and not webbrowser.open(path.resolve().as_uri()):
        printer.note("no browser opens here: open the page yourself")
    printer.result({"session": which.prefix, "page": str(path)}, f"page of {which}: {path}")
    return 0


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Turn what the file system refuses into `BadUsage` of an option."""
    try:
        yield
    except OSError as exc:
        remedy = f"{exc.strerror}: give one that can be written"
        raise errors.BadUsage(f"{option} {visible(str(path))}: {remedy}") from exc


def name_speakers(
    env_file: Path | None, printer: Printer, session: str, file: Path | None, given: tuple[str, ...]
) -> int:
    """Write speakers' names, of the page's export or of options, into a session's transcript."""
    edge = Edge.load(env_file, queue=False)
    names, of = dict[str, str](), None
    if file is not None:
        try:
            read = json.loads(file.read_bytes())
            names = {str(label): str(name) for label, name in read["speakers"].items()}
            of = read["request_id"], read["audio_etag"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as exc:
            remedy = "give the file that the page saves as speakers' names"
            text = f"{visible(str(file))} cannot be read as names: {remedy}"
            raise errors.BadUsage(text) from exc
    names |= {label: name for label, _, name in (text.partition("=") for text in given)}
    if not names:
        raise errors.BadUsage("no names: give the page's FILE, or --speaker SPEAKER_00=NAME")
    which = edge.session(session)
    kept = api.name_speakers(edge, which, names, of)
    lines = (f"  {label}: {name}" for label, name in kept.items())
    printer.result({"session": which.prefix, "speaker_names": kept}, f"names of {which}:", *lines)
    return 0


_RUNPOD_JOB = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}-\w{2}")
_ANY_JOB = re.compile(r"[A-Za-z0-9-]{1,80}")


def job_to_cancel(edge: Edge, what: str) -> str:
    """Return the id of the job that ``what`` names; raises `ClaimConflict` if there is none."""
    session = session_or_job(edge, what)
    if session is None:
        return what
    claim = claims.current(edge.bucket, session)
    if claim is None:
        text = f"nothing was submitted for {session}: there is nothing to cancel"
        raise errors.ClaimConflict(text)
    check_endpoint(edge, session, claim)
    if claim.job_id is None:
        raise errors.ClaimConflict(
            f"the job of {session} is not known: its submission's answer was lost; it ends by "
            f"itself before {claim.expires_at:%Y-%m-%d %H:%M} UTC"
        )
    return claim.job_id


def session_or_job(edge: Edge, what: str) -> Session | None:
    """Tell sessions from jobs; None for a job.

    A bare word that no session has is taken for a job if it can be one.
    """
    if _RUNPOD_JOB.fullmatch(what):
        return None
    try:
        return edge.session(what)
    except errors.SessionNotFound:
        if _ANY_JOB.fullmatch(what):
            return None
        raise

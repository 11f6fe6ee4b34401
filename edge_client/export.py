"""``export``: many sessions' transcripts as files, in several formats, ``DIR/USER/SESSION.FORMAT``.

A file has its transcript's time in S3, so a listing alone tells which are due. Each is written
under another name and renamed. A session that fails does not keep the others from theirs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from bucketscribe_render.cues import Layout
from bucketscribe_render.formats import FORMATS
from edge_client.batch.listing import in_order, list_sessions
from edge_client.batch.run import choose
from edge_client.batch.types import ListedSession
from edge_client.commands import source_of, writing
from edge_client.errors import EdgeError
from edge_client.services.edge import Edge
from edge_client.session import Session, file_name
from edge_client.text import Printer


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of a session's files: ``exported``, ``unchanged`` or ``failed``."""

    session: Session
    result: str
    files: tuple[str, ...] = ()
    code: str | None = None
    message: str | None = None


def export(
    env_file: Path | None,
    printer: Printer,
    sessions: tuple[str, ...],
    user: str | None,
    since: str | None,
    limit: int | None,
    forms: tuple[str, ...],
    output_dir: Path,
    line_width: int,
    lines: int,
) -> int:
    """Write what is due, and print a line for each session of which something was; 1 if any failed.

    Sessions without a transcript are left out, and fail where they were named.
    """
    edge = Edge.load(env_file, queue=False)
    chosen = choose(edge, sessions, user, since)
    one = partial(_export, edge, tuple(dict.fromkeys(forms)), output_dir, Layout(line_width, lines))
    counts = Counter(exported=0, unchanged=0, failed=0)
    with closing(list_sessions(edge.bucket, chosen)) as listed:
        wanted = (each for each in listed if each.has_transcript or sessions)
        work: Iterable[Exported | partial[Exported]] = (
            partial(one, each) for each in islice(wanted, limit)
        )
        with closing(in_order(work)) as ended:
            for each in ended:
                counts[each.result] += 1
                if printer.as_json:
                    printer.result(asdict(each) | {"session": each.session.prefix})
                elif each.code:
                    printer.note(f"failed: {each.session}: {each.code}: {each.message}")
                elif each.files:
                    printer.result({}, *each.files)
    told = ", ".join(f"{count:,} {result}" for result, count in counts.items())
    printer.note(f"{counts.total():,} sessions: {told}")
    return 1 if counts["failed"] else 0


def _export(
    edge: Edge, forms: Sequence[str], folder: Path, layout: Layout, listed: ListedSession
) -> Exported:
    """Write the files that are not there, or are older than the transcript."""
    session, stored = listed.session, listed.transcript
    at_s = 0 if stored is None else int(stored.modified_at.timestamp())
    place = folder / file_name(session.user) / file_name(session.name)
    paths = {form: place.with_name(f"{place.name}.{form}") for form in forms}
    try:
        due = [form for form, path in paths.items() if not _is_there(path, at_s)]
        if stored is not None and not due:
            return Exported(session, "unchanged")
        source = source_of(edge, session, layout)
        for form in due:
            _write(paths[form], FORMATS[form](source).rstrip("\n") + "\n", at_s)
    except EdgeError as exc:
        if exc.exit_code > 1:  # it concerns all sessions
            raise
        return Exported(session, "failed", code=exc.code, message=str(exc))
    return Exported(session, "exported", tuple(str(paths[form]) for form in due))


def _is_there(path: Path, at_s: int) -> bool:
    with writing("--output-dir", path):
        return path.exists() and path.stat().st_mtime >= at_s


def _write(path: Path, text: str, at_s: int) -> None:
    part = path.with_name(f".{path.name}.part")
    with writing("--output-dir", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(text, encoding="utf-8", newline="\n")
        os.utime(part, (at_s, at_s))
        part.replace(path)

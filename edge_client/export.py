"""``export``: many sessions' transcripts as files, in several formats, ``DIR/USER/SESSION.FORMAT``.

A file has its transcript's time in S3, so a listing alone tells which are due. Each is written
under another name and renamed. A session that fails does not keep the others from theirs.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bucketscribe_render.cues import Layout
from bucketscribe_render.formats import FORMATS
from edge_client.batch.listing import in_order, list_sessions
from edge_client.batch.run import choose
from edge_client.batch.types import ListedSession
from edge_client.commands import source_of, writing
from edge_client.errors import EdgeError
from edge_client.output import Facts
from edge_client.services.edge import Edge
from edge_client.session import file_name
from edge_client.text import Printer, session_count


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
    with closing(list_sessions(edge.bucket, chosen)) as listed:
        late = filter(chosen.admits, listed)
        wanted = islice((e for e in late if e.has_transcript or chosen.sessions), limit)
        work: Iterable[Facts | partial[Facts]] = (partial(one, each) for each in wanted)
        with closing(in_order(work)) as ended:
            for facts in ended:
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
                text = FORMATS[form](source).rstrip("\n") + "\n"
                with writing("--output-dir", paths[form]):
                    _write(paths[form], text, at_s)
            facts |= {"result": "exported", "files": [str(paths[form]) for form in due]}
    except EdgeError as exc:
        if exc.exit_code > 1:  # it concerns all sessions
            raise
        facts |= {"result": "failed", "code": exc.code, "message": str(exc)}
    return facts


def _write(path: Path, text: str, at_s: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.utime(part, (at_s, at_s))
    part.replace(path)

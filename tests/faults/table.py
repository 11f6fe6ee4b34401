"""Writes ``docs/faults.md``: every fault, what came of it, how often the handler ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.faults.case import Verdict

TARGET = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_HEAD = """# Faults, and what comes of them

Made by `python -m tests.faults` on the development stack: a real S3 server, RunPod's protocol on
loopback, real workers and the real edge client, with proxies between them that break what the
table says. *Equal* is the transcript in S3, compared with that of an undisturbed run: text, words,
times and speakers. *Runs* is how often the handler ran for the recording, all attempts together:
what is paid for. After all of them no temporary file, no process and no signature in any log is
left. Pauses are shortened: the edge's from 30 s to 1 s, the worker's read stall from 30 s to 3 s.
"""
_COLUMNS = "| fault | what comes of it | runs | seen |\n|---|---|---|---|\n"


def write(groups: Mapping[str, Sequence[Verdict]]) -> None:
    """Write the page."""
    parts = [f"\n## {name}\n\n{_COLUMNS}" + "".join(map(_row, v)) for name, v in groups.items()]
    TARGET.write_text(_HEAD + "".join(parts), encoding="utf-8")


def _row(verdict: Verdict) -> str:
    case = verdict.case
    outcome = "**not as it has to be**" if verdict.problem else str(case.expected)
    return f"| {case.fault} | {outcome} | {case.runs} | {verdict.note} |\n"

"""Runs the fault suite: ``python -m tests.faults [--sentinels | WORD…]``.

Without arguments all cases run and ``docs/faults.md`` is written anew; with words those whose
fault has all of them; with ``--sentinels`` one of each kind, as `make test` does. Prints a line for
each case; the exit code is 1 if any does not end as it has to.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import chain, zip_longest
from typing import Any

from tests.faults.case import Case, Verdict, aftermath, play, shown
from tests.faults.cases_edge import EDGE_TO_QUEUE, KILLED_EDGE, WORKER_TO_QUEUE
from tests.faults.cases_s3 import GETS, PUTS
from tests.faults.cases_worker import BROKEN, KILLED, LEFT, OUT_OF_MEMORY, STOPPED
from tests.faults.scene import ROOT, Ground, common_ground, scene
from tests.processes import processes_left, wait_until

AT_ONCE = 5
HEAD = """# Faults, and what comes of them

Made by `python -m tests.faults` on the development stack: a real S3 server, RunPod's protocol on
loopback, real workers and the real edge client, with proxies between them that break what the
table says. *Equal* is the transcript in S3, compared with that of an undisturbed run: text, words,
times and speakers. *Runs* is how often the handler ran for the recording, all attempts together:
what is paid for. After all of them no temporary file, no process and no signature in any log is
left. Pauses are shortened: the edge's from 30 s to 1 s, the worker's read stall from 30 s to 3 s.
"""
COLUMNS = "| fault | what comes of it | runs | seen |\n|---|---|---|---|\n"
GROUPS = {
    "Between worker and S3: GET": GETS,
    "Between worker and S3: PUT": PUTS,
    "Edge client: SIGKILL between two steps, then the same command": KILLED_EDGE,
    "Between edge and queue": EDGE_TO_QUEUE,
    "Between worker and queue": WORKER_TO_QUEUE,
    "Worker: SIGKILL": KILLED,
    "Worker: SIGTERM": LEFT,
    "Worker: cancelled, or out of time": STOPPED,
    "Worker: out of memory": OUT_OF_MEMORY,
    "Worker: what breaks inside": BROKEN,
}

SENTINELS = (
    "GET: 403 expired",
    "GET: reset at 50%",
    "PUT: 500 twice, then fine",
    "PUT: 403",
    "edge: SIGKILL after 5 steps",
    "/run: answer lost after it was accepted",
    "COMPLETED without output, the transcript is there",
    "worker: SIGKILL in transcribe",
    "worker: SIGTERM in diarize",
    "worker: cancelled in transcribe",
    "out of memory in transcribe above a batch of 1",
    "worker: align raises",
)
"""One of each kind: what fails here most likely fails for the kind."""


def main(arguments: Sequence[str]) -> int:
    """Play the cases; return the exit code."""
    started = time.monotonic()
    chosen = _chosen(arguments)
    verdicts, problems = _play_all(chosen)
    for problem in problems:
        _say(f"✗ afterwards: {problem}")
    red = sum(bool(v.problem) for v in verdicts.values())
    took = time.monotonic() - started
    _say(f"{len(verdicts) - red} of {len(verdicts)} as they have to be, {took:.0f} s")
    if not arguments:
        _write_table(verdicts)
    return 1 if red or problems else 0


def _chosen(arguments: Sequence[str]) -> dict[str, list[Case]]:
    words = [word.lower() for word in arguments]
    if words == ["--sentinels"]:
        chosen = {g: [c for c in cases if c.fault in SENTINELS] for g, cases in GROUPS.items()}
        if sum(map(len, chosen.values())) != len(SENTINELS):
            raise SystemExit("a sentinel is no fault of the table")
        return chosen
    return {
        group: [c for c in cases if all(word in c.fault.lower() for word in words)]
        for group, cases in GROUPS.items()
    }


def _play_all(chosen: dict[str, list[Case]]) -> tuple[dict[str, Verdict], list[str]]:
    with common_ground() as ground:
        wanted = {case.recording for cases in chosen.values() for case in cases}
        baselines = {name: _undisturbed(ground, name) for name in sorted(wanted - {"padded"})}
        baselines["padded"] = baselines.get("short") or _undisturbed(ground, "short")
        verdicts = {}
        for verdict in _played(chosen, ground, baselines):
            _tell(verdict)
            verdicts[verdict.case.fault] = verdict
        _wait_for_all_workers(ground)
        for fault, verdict in verdicts.items():
            late = "" if verdict.problem else aftermath(verdict.case, ground)
            if late:
                verdicts[fault] = Verdict(verdict.case, late)
                _tell(verdicts[fault])
        problems = [f"{name} holds a signature" for name in ground.secrets_in_logs()]
        problems += [f"{name} is left in the workers' TMPDIR" for name in ground.files_left()]
        home, key = str(ground.stack.worker_home.parent), ground.stack.env["RUNPOD_API_KEY"]
    problems += [f"process {pid} is left" for mark in (home, key) for pid in processes_left(mark)]
    return verdicts, problems


def _played(
    chosen: dict[str, list[Case]], ground: Ground, baselines: dict[str, Any]
) -> Iterable[Verdict]:
    """Play those that may meet, kinds mixed so that not all workers die at once; then the rest."""
    mixed = [case for case in chain(*zip_longest(*chosen.values())) if case is not None]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        together = [pool.submit(play, c, ground, baselines) for c in mixed if not c.alone]
        for played in as_completed(together):
            yield played.result()
    for case in mixed:
        if case.alone:
            yield play(case, ground, baselines)


def _undisturbed(ground: Ground, recording: str) -> Any:
    """Return what a recording's transcript has to be."""
    with scene(ground, f"undisturbed-{recording}") as here:
        here.put("audio.wav", ground.recordings[recording])
        said = here.submit()
        document = here.transcript()
        if said.code or document is None or document["warnings"] or not document["segments"]:
            raise SystemExit(f"the undisturbed run failed: {said.text}")
        return shown(document)


def _wait_for_all_workers(ground: Ground) -> None:
    """Wait until every worker is up again, so that what one leaves behind can be seen."""
    with scene(ground, "rest") as here:

        def all_idle() -> bool:
            workers = here.start_edge("health", "--json")().facts.get("workers", {})
            return bool(workers.get("idle") == len(ground.stack.workers))

        wait_until(all_idle, 90.0, "all workers' return")


def _write_table(verdicts: Mapping[str, Verdict]) -> None:
    parts = [HEAD]
    for group, cases in GROUPS.items():
        parts.append(f"\n## {group}\n\n{COLUMNS}")
        for case in cases:
            verdict = verdicts[case.fault]
            outcome = "**not as it has to be**" if verdict.problem else case.expected
            parts.append(f"| {case.fault} | {outcome} | {case.runs} | {verdict.note} |\n")
    (ROOT / "docs/faults.md").write_text("".join(parts), encoding="utf-8")


def _tell(verdict: Verdict) -> None:
    case = verdict.case
    runs = f"{case.runs} run{'s' if case.runs != 1 else ''}"
    text = verdict.problem or "; ".join(filter(None, [str(case.expected), runs, verdict.note]))
    _say(f"{'✗' if verdict.problem else '✓'} {case.fault}: {text} ({verdict.seconds:.1f} s)")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

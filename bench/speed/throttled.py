"""A job whose recording comes slowly: fetching should hide behind computing, or the reverse.

One warm worker runs the meeting from storage at 20 MB/s and from storage without a limit, in
turns. What the slow job takes is held against the longer of its download and of the fast job.
``python -m bench.speed.throttled TASK.json`` is the worker's process.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.speed.bench_folder import Bench
from bench.speed.inputs import MEETING, write_input
from bench.speed.loopback import Storage
from bench.speed.ours import Job, Worker
from bench.speed.side_by_side import run_module
from bench.speed.subject import WARM_UP_S
from bench.speed.summaries import Figure

RATE = 20_000_000
MOST_PAIRS = 3
"""One process for all: the ratio of two jobs of the same worker varies little."""


def measure_throttled(bench: Bench) -> dict[str, Any]:
    """Measure at 20 MB/s, and at the rate at which the download takes as long as the work."""
    recording = write_input(MEETING.name, bench.folder)
    size = recording.stat().st_size
    path, answer = bench.folder / "throttled-task.json", bench.folder / "throttled.json"
    with Storage(bench.folder) as storage:
        task = {
            "models": str(bench.models.resolve()),
            "storage": storage.url(""),
            "recording": recording.name,
            "bytes": size,
            "pairs": min(bench.pairs, MOST_PAIRS),
            "answer": str(answer),
        }
        path.write_text(json.dumps(task))
        run_module("bench.speed.throttled", path)
    runs = json.loads(answer.read_text())
    return {"recording": MEETING.name, "bytes": size} | {
        name: summarise(runs[name], runs["unlimited"], size) for name in ("20 MB/s", "as slow")
    }


def summarise(
    slow: Sequence[Mapping[str, float]], fast: Sequence[Mapping[str, float]], size: int
) -> dict[str, Any]:
    """Hold each slow job against the longer of its download and of the fast job beside it.

    Args:
        slow: ``wall_s`` and ``rate`` (bytes a second) of each.
        fast: ``wall_s`` of each.
        size: Of the recording, in bytes.
    """
    pairs = list(zip(slow, fast, strict=False))
    longer = [max(size / s["rate"], f["wall_s"]) for s, f in pairs]
    return {
        "rate": round(slow[0]["rate"]),
        "download_s": round(size / slow[0]["rate"], 3),
        "slow_s": asdict(Figure.of([s["wall_s"] for s, _ in pairs])),
        "unlimited_s": asdict(Figure.of([f["wall_s"] for _, f in pairs])),
        "ratio": asdict(
            Figure.of([s["wall_s"] / of for (s, _), of in zip(pairs, longer, strict=True)])
        ),
    }


def run(task: Mapping[str, Any]) -> dict[str, list[dict[str, float]]]:
    """Run the jobs; the last one comes as slowly as it is worked on."""
    worker = Worker(Path(task["models"]))
    audio_url = f"{task['storage']}{task['recording']}"
    result_url = f"{task['storage']}result-throttled.json"
    worker.run(Job(audio_url, result_url, WARM_UP_S))

    def go(rate: float | None) -> dict[str, float]:
        limited = f"{audio_url}?rate={rate:.0f}" if rate else audio_url
        return {"wall_s": worker.run(Job(limited, result_url)).wall_s, "rate": rate or 0.0}

    found: dict[str, list[dict[str, float]]] = {"20 MB/s": [], "unlimited": [], "as slow": []}
    for _ in range(task["pairs"]):
        found["unlimited"].append(go(None))
        found["20 MB/s"].append(go(RATE))
    found["as slow"].append(go(task["bytes"] / found["unlimited"][0]["wall_s"]))
    return found


def main() -> None:
    """Be the worker's process."""
    task = json.loads(Path(sys.argv[1]).read_text())
    with contextlib.redirect_stdout(sys.stderr):
        found = run(task)
    Path(task["answer"]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()

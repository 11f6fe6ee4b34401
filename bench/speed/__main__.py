"""``python -m bench.speed``: measure ours against stock, write docs/benchmarks.{json,md}.

Every part of `PARTS`, or those named with ``--only``; what a part measured replaces what
docs/benchmarks.json has of it, and the rest stays with its own date. ``--dry-run`` prints and
writes nothing; ``--only quick --pairs 1 --dry-run`` is for work on the engine. Figures are worth
something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.corpus import ROOT, SAMPLE_RATE_HZ, read_recording
from bench.scoring import compare
from bench.speed.inputs import (
    GERMAN,
    LONG,
    MEETING,
    PANEL,
    TELEPHONE,
    Bench,
    Storage,
    derive_models,
    write_input,
)
from bench.speed.measure import by_stage, describe, figure, ratios
from bench.speed.report import markdown, merge
from bench.speed.sides import JobFailed, Run, Subject, measure_peak, run_process, take_turns
from bench.stock import Recipe

STOCK, OURS, DEFAULT = "stock", "ours", "default"
README = Recipe()


def measure_jobs(
    bench: Bench, *recordings: str, recipe: Recipe = README, models: Path | None = None
) -> dict[str, Any]:
    """Measure recordings, each by all sides."""
    folder = models or bench.models
    subjects = [Subject(side, recipe, recordings, folder) for side in (STOCK, OURS, DEFAULT)]
    runs = take_turns(subjects, bench.pairs, bench.folder)
    return {"recordings": {name: compare_sides(runs, name, bench) for name in recordings}}


def measure_german(bench: Bench) -> dict[str, Any]:
    """Measure German with the multilingual model.

    There is no German aligner in the demo profile: on both sides the English one times the words.
    """
    profile_changes = {"align": {"de": {"path": "align/en", "name": "align-en-tiny"}}}
    models = derive_models(bench.models, bench.folder / "models-german", profile_changes)
    recipe = Recipe(whisper="base", align_language="de")
    return measure_jobs(bench, GERMAN, recipe=recipe, models=models.absolute())


def measure_stages(bench: Bench) -> dict[str, Any]:
    """Measure the telephone sample with the architectures of production's aligner and diarization.

    Their module needs torch: it is imported when this is measured.
    """
    from bench.speed.architectures import write_architectures

    models = write_architectures(bench.models, bench.folder / "models-architectures")
    found = measure_jobs(bench, TELEPHONE, models=models)
    return {"recordings": {"architectures": found["recordings"][TELEPHONE]}}


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Measure the peak of half an hour above the loaded models, once a side."""
    subjects = (Subject(side, README, (LONG.name,), bench.models) for side in (STOCK, OURS))
    with Storage(bench.folder) as storage:
        task = bench.folder, storage.url("")
        stock, ours = (run_process(measure_peak, subject, *task) for subject in subjects)
    return {
        "recording": LONG.name,
        "duration_s": duration_s(LONG.name, bench),
        STOCK: stock,
        OURS: ours,
        "ratio": round(ours["added"] / stock["added"], 4),
        "wall_ratio": round(ours["wall_s"] / stock["wall_s"], 4),
    }


def measure_cold_start(bench: Bench) -> dict[str, Any]:
    """Measure from the start of a process to its first transcript, in turns.

    *Worker* is ``handler.py`` with the telephone sample as its first job; *stock* is `bench.stock`.
    """
    recording, models = write_input(TELEPHONE, bench.folder), bench.models.resolve()
    result = bench.folder / "result-cold.json"
    worker, stock = [], []
    with Storage(bench.folder) as storage:
        urls = {"audio_url": storage.url(recording.name), "result_url": storage.url(result.name)}
        job = ["handler.py", "--test_input", json.dumps({"input": urls})]
        recipe = ["-m", "bench.stock", str(models), str(recording), str(result)]
        for turn in range(bench.pairs):
            worker.append(first_result_s(job, models, result))
            stock.append(first_result_s(recipe, models, result))
            print(f"{turn + 1}/{bench.pairs} worker {worker[-1]:.1f} s, stock {stock[-1]:.1f} s")
    seconds = {"worker": figure(worker), "stock": figure(stock)}
    return {"recording": TELEPHONE, **seconds, "ratio": ratios(worker, stock)}


def first_result_s(command: Sequence[str], models: Path, result: Path) -> float:
    """Run Python to its end; return the seconds from its start until the result was written.

    Raises:
        JobFailed: There is none.
    """
    result.unlink(missing_ok=True)
    settings = {"MODELS_DIR": str(models), "ALLOW_LOOPBACK_URLS": "1"}
    began = time.time()
    run = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not result.exists():
        said = run.stdout[-2000:]
        raise JobFailed(f"{command[0]} gave no result (exit {run.returncode})\n{said}")
    return result.stat().st_mtime - began


def compare_sides(
    runs: Mapping[str, Mapping[str, Sequence[Run]]], name: str, bench: Bench
) -> dict[str, Any]:
    """Sum up one recording: seconds of each side, ratios by step, parity."""
    stock, ours, default = (runs[side][name] for side in (STOCK, OURS, DEFAULT))
    length_s = duration_s(name, bench)
    return {
        "duration_s": length_s,
        STOCK: _seconds(stock),
        OURS: _seconds(ours),
        **_ratios(ours, stock),
        DEFAULT: _seconds(default) | _ratios(default, stock),
        "parity": compare(ours[0].heard, stock[0].heard, length_s),
        "same_every_time": all(
            run.heard == side[0].heard for side in (stock, ours, default) for run in side
        ),
    }


def duration_s(name: str, bench: Bench) -> float:
    """Return a recording's length."""
    samples = read_recording(write_input(name, bench.folder))
    return round(len(samples) / SAMPLE_RATE_HZ, 3)


def _seconds(runs: Sequence[Run]) -> dict[str, Any]:
    steps = by_stage([run.timings_s for run in runs])
    return {
        "wall_s": figure([run.wall_s for run in runs]),
        "steps_s": {step: figure(seconds) for step, seconds in steps.items()},
    }


def _ratios(ours: Sequence[Run], stock: Sequence[Run]) -> dict[str, Any]:
    our, their = (by_stage([run.timings_s for run in runs]) for runs in (ours, stock))
    return {
        "ratio": ratios([run.wall_s for run in ours], [run.wall_s for run in stock]),
        "ratio_by_step": {s: ratios(our[s], their[s]) for s in their if s in our},
    }


QUICK = "quick"
"""The telephone sample alone: for work on the engine, never written."""
PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "english": lambda bench: measure_jobs(bench, TELEPHONE, MEETING.name, PANEL.name),
    "german": measure_german,
    "stages": measure_stages,
    "memory": measure_memory,
    "cold_start": measure_cold_start,
    QUICK: lambda bench: measure_jobs(bench, TELEPHONE),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__)
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", default=[])
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each comparison")
    parser.add_argument("--models", type=Path, default=ROOT / "models", metavar="DIR")
    parser.add_argument("--dry-run", action="store_true", help="print figures, write nothing")
    options = parser.parse_args(arguments)
    file = ROOT / "docs" / "benchmarks.json"
    document: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    with tempfile.TemporaryDirectory(prefix="bench-") as made:
        bench = Bench(options.models, Path(made), options.pairs)
        for name in options.only or [name for name in PARTS if name != QUICK]:
            document = merge(document, name, _measure(name, bench))
            if not options.dry_run and name != QUICK:
                file.write_text(json.dumps(document, indent=1) + "\n")
                file.with_suffix(".md").write_text(markdown(document))
    print(json.dumps(document, indent=1) if options.dry_run else markdown(document))
    return 0


def _measure(name: str, bench: Bench) -> dict[str, Any]:
    print(f"{name}:")
    started = time.monotonic()
    measured = PARTS[name](bench)
    seconds = round(time.monotonic() - started)
    print(f"{name}: {seconds} s")
    today = datetime.now(UTC).date().isoformat()
    return measured | {"date": today, "machine": describe(), "bench_s": seconds}


if __name__ == "__main__":
    sys.exit(main())

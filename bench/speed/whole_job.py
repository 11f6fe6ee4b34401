"""The whole job, ours against stock: warm by step, with the parity of what came out; cold.

Takes a `Bench`; returns one part of docs/benchmarks.json a function.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.corpus import ROOT, SAMPLE_RATE_HZ, read_recording
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
from bench.speed.measure import by_stage, figure, ratios
from bench.speed.parity import compare
from bench.speed.sides import JobFailed, Run, Subject, measure_peak, run_process, take_turns
from bench.stock import Recipe

STOCK, OURS, DEFAULT = "stock", "ours", "default"


def measure_quick(bench: Bench) -> dict[str, Any]:
    """Measure the telephone sample alone."""
    return _measure(Recipe(), (TELEPHONE,), bench, bench.models)


def measure_english(bench: Bench) -> dict[str, Any]:
    """Measure telephone, meeting and panel."""
    return _measure(Recipe(), (TELEPHONE, MEETING.name, PANEL.name), bench, bench.models)


def measure_german(bench: Bench) -> dict[str, Any]:
    """Measure German with the multilingual model.

    There is no German aligner in the demo profile: on both sides the English one times the words.
    """
    profile_changes = {"align": {"de": {"path": "align/en", "name": "align-en-tiny"}}}
    models = derive_models(bench.models, bench.folder / "models-german", profile_changes)
    recipe = Recipe(whisper="base", align_language="de")
    return _measure(recipe, (GERMAN,), bench, models.absolute())


def measure_stages(bench: Bench) -> dict[str, Any]:
    """Measure the telephone sample with the architectures of production's aligner and diarization.

    Their module needs torch: it is imported when this is measured.
    """
    from bench.speed.architectures import write_architectures

    models = write_architectures(bench.models, bench.folder / "models-architectures")
    found = _measure(Recipe(), (TELEPHONE,), bench, models)
    return {"recordings": {"architectures": found["recordings"][TELEPHONE]}}


def measure_memory(bench: Bench) -> dict[str, Any]:
    """Measure the peak of half an hour above the loaded models, once a side."""
    subjects = (Subject(side, Recipe(), (LONG.name,), bench.models) for side in (STOCK, OURS))
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


def _measure(
    recipe: Recipe, recordings: tuple[str, ...], bench: Bench, models: Path
) -> dict[str, Any]:
    subjects = [Subject(side, recipe, recordings, models) for side in (STOCK, OURS, DEFAULT)]
    runs = take_turns(subjects, bench.pairs, bench.folder)
    return {"recordings": {name: compare_sides(runs, name, bench) for name in recordings}}


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

"""From the start of a process to its first transcript.

Three kinds of fresh processes, in turns: *worker*, ``handler.py`` with the telephone sample as its
first job; *one after the other*, imports and then each model in sequence; *ready*, the first job of
a worker whose models are loaded. *Worker* is compared with *one after the other* plus that first
job. ``python -m bench.speed --only cold_start`` measures it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.corpus import ROOT
from bench.speed.inputs import TELEPHONE, Bench, Storage, write_input
from bench.speed.measure import figure, figures, ratios
from bench.speed.sides import JobFailed, Worker
from bench.speed.turns import run_process

RESULT = "result-cold.json"
LOADED = re.compile(r"loaded (?!aligner).+ in [\d.]+ s")


def measure_cold_start(bench: Bench) -> dict[str, Any]:
    """Measure the three kinds in turns."""
    recording, models = write_input(TELEPHONE, bench.folder), bench.models.resolve()
    workers, serial, first_jobs = [], [], []
    with Storage(bench.folder) as storage:
        urls = storage.url(recording.name), storage.url(RESULT)
        for turn in range(bench.pairs):
            workers.append(start_worker(models, storage, *urls))
            serial.append(_load_serially(models))
            first_jobs.append(run_process(run_first_job, models, *urls))
            spent = workers[-1]["first result"], serial[-1] + first_jobs[-1]
            print(f"{turn + 1}/{bench.pairs} worker {spent[0]:.1f} s, serial {spent[1]:.1f} s")
    return summarise(workers, serial, first_jobs)


def summarise(
    workers: Sequence[Mapping[str, float]], serial: Sequence[float], first_jobs: Sequence[float]
) -> dict[str, Any]:
    """Sum up.

    Args:
        workers: Seconds after the process's start, by moment; ``first result`` is one.
        serial: Seconds of imports and models.
        first_jobs: Seconds of the first job of a worker that is ready.
    """
    before = [loaded + job for loaded, job in zip(serial, first_jobs, strict=True)]
    return {
        "recording": TELEPHONE,
        "worker": figures(workers),
        "first job": figure(first_jobs),
        "earlier first result": figure(before),
        "ratio": ratios([moments["first result"] for moments in workers], before),
    }


def start_worker(
    models: Path, storage: Storage, audio_url: str, result_url: str
) -> dict[str, float]:
    """Run ``handler.py`` on one job.

    Returns:
        Seconds after the process's start: ``models ready`` (all but the aligner, which a job asks
        for) and ``first result`` (it is in the storage).
    """
    job = json.dumps({"input": {"audio_url": audio_url, "result_url": result_url}})
    settings = {"MODELS_DIR": str(models), "ALLOW_LOOPBACK_URLS": "1", "PYTHONUNBUFFERED": "1"}
    seen = len(storage.requests())
    began = time.time()
    command = [sys.executable, "handler.py", "--test_input", job]
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | settings, stdout=pipe, stderr=both, text=True
    ) as process:
        assert process.stdout is not None  # noqa: S101 -- as asked for above
        lines = [(time.time() - began, line.rstrip()) for line in process.stdout]
    loaded = [at for at, line in lines if LOADED.search(line)]
    stored = [float(r["ended"]) for r in storage.requests()[seen:] if r["name"] == RESULT]
    if not (stored and loaded):
        raise JobFailed("handler.py: no result\n" + "\n".join(line for _, line in lines[-12:]))
    return {"models ready": max(loaded), "first result": stored[0] - began}


def _load_serially(models: Path) -> float:
    """Measure a `bench.speed.cold_process`, its start included."""
    command = [sys.executable, "-m", "bench.speed.cold_process", str(models)]
    began = time.perf_counter()
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if run.returncode:
        raise JobFailed(f"loading one after the other: exit {run.returncode}\n{run.stderr[-2000:]}")
    return seconds


def run_first_job(models: Path, audio_url: str, result_url: str) -> float:
    """Get a worker ready, aligner included, and time its first job; for a process of its own."""
    worker = Worker(models)
    worker.models.aligner("en")
    return worker.run(audio_url, result_url).wall_s

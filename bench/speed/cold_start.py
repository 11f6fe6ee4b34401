"""From the start of a process to its first transcript.

Two kinds of fresh processes, in turns: *worker*, ``handler.py`` with the telephone sample as its
first job; *stock*, `bench.stock` on the same file. ``python -m bench.speed --only cold_start``
measures it.
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
from bench.speed.sides import JobFailed

LOADED = re.compile(r"loaded (?!aligner).+ in [\d.]+ s")


def measure_cold_start(bench: Bench) -> dict[str, Any]:
    """Measure both kinds in turns."""
    recording, models = write_input(TELEPHONE, bench.folder), bench.models.resolve()
    workers, stock = [], []
    with Storage(bench.folder) as storage:
        for turn in range(bench.pairs):
            workers.append(start_worker(models, storage, recording))
            command = ["-m", "bench.stock", str(models), str(recording)]
            stock.append(run_timed(command, {})[-1][0])
            first_s = workers[-1]["first result"]
            print(f"{turn + 1}/{bench.pairs} worker {first_s:.1f} s, stock {stock[-1]:.1f} s")
    return {
        "recording": TELEPHONE,
        "worker": figures(workers),
        "stock": figure(stock),
        "ratio": ratios([moments["first result"] for moments in workers], stock),
    }


def start_worker(models: Path, storage: Storage, recording: Path) -> dict[str, float]:
    """Run ``handler.py`` on one job.

    Returns:
        Seconds after the process's start: ``models ready`` (all but the aligner, which a job asks
        for) and ``first result`` (it is in the storage).
    """
    result = recording.with_name("result-cold.json")
    result.unlink(missing_ok=True)
    urls = {"audio_url": storage.url(recording.name), "result_url": storage.url(result.name)}
    settings = {"MODELS_DIR": str(models), "ALLOW_LOOPBACK_URLS": "1", "PYTHONUNBUFFERED": "1"}
    began = time.time()
    lines = run_timed(["handler.py", "--test_input", json.dumps({"input": urls})], settings)
    loaded = [at_s for at_s, line in lines if LOADED.search(line)]
    if not (result.exists() and loaded):
        raise JobFailed("handler.py: no result\n" + "\n".join(line for _, line in lines[-12:]))
    return {"models ready": max(loaded), "first result": result.stat().st_mtime - began}


def run_timed(command: Sequence[str], settings: Mapping[str, str]) -> list[tuple[float, str]]:
    """Run Python to its end; return what it printed, with seconds after its start.

    Raises:
        JobFailed: It did not exit with 0.
    """
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    began = time.time()
    with subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env=os.environ | settings,
        stdout=pipe,
        stderr=both,
        text=True,
    ) as process:
        assert process.stdout is not None  # noqa: S101 -- as asked for above
        lines = [(time.time() - began, line.rstrip()) for line in process.stdout]
    if process.returncode:
        said = "\n".join(line for _, line in lines[-12:])
        raise JobFailed(f"{' '.join(command[:2])}: exit {process.returncode}\n{said}")
    return lines

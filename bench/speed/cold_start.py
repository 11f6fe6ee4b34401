"""From the start of a process to its first transcript.

Two kinds of fresh processes, in turns: *worker*, ``handler.py`` with the telephone sample as its
first job; *stock*, `bench.stock` on the same file. ``python -m bench.speed --only cold_start``
measures it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.corpus import ROOT
from bench.speed.inputs import TELEPHONE, Bench, Storage, write_input
from bench.speed.measure import figure, ratios
from bench.speed.sides import JobFailed


def measure_cold_start(bench: Bench) -> dict[str, Any]:
    """Measure both kinds in turns."""
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
    return {
        "recording": TELEPHONE,
        "worker": figure(worker),
        "stock": figure(stock),
        "ratio": ratios(worker, stock),
    }


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
        raise JobFailed(
            f"{command[0]} gave no result (exit {run.returncode})\n{run.stdout[-2000:]}"
        )
    return result.stat().st_mtime - began

"""The best thread settings for stock, found by trying them.

CTranslate2 and torch share one OpenMP pool and overwrite each other's number of threads, so
stock's best setting differs from machine to machine. It is looked for once; what was found is in
``docs/benchmarks.json`` and used again on a machine with as many cores.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bench.speed.bench_folder import Bench
from bench.speed.inputs import TRIAL
from bench.speed.side_by_side import Subject, take_turns
from bench.stock import Recipe, Threads

PART = "threads"


def candidates(cores: int) -> tuple[Threads, ...]:
    """Return the settings worth trying; the first is the README's."""
    half = max(1, cores // 2)
    return tuple(
        dict.fromkeys(
            (
                Threads(),
                Threads(cores),
                Threads(1),
                Threads(half, cores, again=True),
                Threads(1, cores, again=True),
                Threads(cores, half, again=True),
                Threads(cores, 1, again=True),
                Threads(1, 1),
            )
        )
    )


def measure_threads(bench: Bench) -> dict[str, Any]:
    """Try every candidate on the trial recording, twice, in turns; the fastest wins."""
    settings = candidates(_cores())
    subjects = [
        Subject(str(index), "stock", Recipe(threads=threads), (TRIAL.name,), bench.models)
        for index, threads in enumerate(settings)
    ]
    answers = take_turns(subjects, 2, bench.folder)
    tried: list[dict[str, Any]] = [
        {
            "threads": asdict(threads),
            "wall_s": min(a["runs"][TRIAL.name]["wall_s"] for a in answers[str(index)]),
        }
        for index, threads in enumerate(settings)
    ]
    best = min(tried, key=lambda one: float(one["wall_s"]))
    return {"cores": _cores(), "tried": tried, "best": best["threads"]}


def is_known(found: Mapping[str, Any]) -> bool:
    """Whether the best threads were found on a machine with as many cores."""
    return PART in found and bool(found[PART]["cores"] == _cores())


def best_threads(bench: Bench) -> Threads:
    """Return what was found on a machine like this one, or find it now."""
    if not is_known(bench.found):
        bench.found[PART] = measure_threads(bench)
    return Threads(**bench.found[PART]["best"])


def _cores() -> int:
    return len(os.sched_getaffinity(0))

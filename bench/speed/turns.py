"""Both sides in turns, each time in a fresh process: A B A B.

Takes `Subject`s and a number of rounds; returns what each process measured. Turns let slow
minutes of the machine fall on both sides. What a process raises, `run_process` raises.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, TypeVar

from bench.speed.inputs import Storage, write_input
from bench.speed.measure import memory_peak
from bench.speed.sides import Run, Worker, run_stock
from bench.stock import Recipe, load_models

WARM_UP_S = 20.0
Runs = dict[str, Run]
T = TypeVar("T")


@dataclass(frozen=True)
class Subject:
    """One thing that is measured again and again.

    Attributes:
        side: ``stock``; ``ours`` with its result; ``default``, ours as it comes.
        recipe: Of stock; ours takes the Whisper and the aligner from it.
        recordings: Names of `bench.speed.inputs`.
        models: The models folder.
    """

    side: str
    recipe: Recipe
    recordings: tuple[str, ...]
    models: Path


def take_turns(
    subjects: Sequence[Subject], rounds: int, folder: Path
) -> dict[str, dict[str, list[Run]]]:
    """Run every subject once a round; return runs by side and recording."""
    runs: dict[str, dict[str, list[Run]]] = {
        subject.side: {name: [] for name in subject.recordings} for subject in subjects
    }
    with Storage(folder) as storage:
        for turn in range(rounds):
            for subject in subjects:
                found = run_process(measure, subject, folder, storage.url(""))
                for name, run in found.items():
                    runs[subject.side][name].append(run)
                seconds = ", ".join(f"{name} {run.wall_s:.1f} s" for name, run in found.items())
                print(f"{turn + 1}/{rounds} {subject.side}: {seconds}")
    return runs


def run_process(function: Callable[..., T], *arguments: object) -> T:
    """Call a function of a module in a fresh process, whose output goes to stderr."""
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=os.dup2, initargs=(2, 1)) as process:
        return process.submit(function, *arguments).result()


def measure(subject: Subject, folder: Path, storage: str) -> Runs:
    """Load, warm up on the beginning of the first recording, run each recording once."""
    recordings = [write_input(name, folder) for name in subject.recordings]
    transcribe = _load(subject, storage)
    transcribe(recordings[0], WARM_UP_S)
    runs = {}
    for recording in recordings:
        gc.collect()
        runs[recording.stem] = transcribe(recording, None)
    return runs


def measure_peak(subject: Subject, folder: Path, storage: str) -> dict[str, float]:
    """Load, and run the first recording without a warm-up; return its memory and seconds."""
    recording = write_input(subject.recordings[0], folder)
    transcribe = _load(subject, storage)
    gc.collect()
    with memory_peak() as memory:
        run = transcribe(recording, None)
    return memory | {"wall_s": run.wall_s}


def _load(subject: Subject, storage: str) -> Callable[[Path, float | None], Run]:
    """Load a side's models; return what runs a recording, or so many seconds of it."""
    if subject.side == "stock":
        stock = load_models(subject.models, subject.recipe.as_the_worker())
        return lambda recording, clip_s: run_stock(stock, recording, clip_s)
    fidelity: Literal["stock", "improved"] = "stock" if subject.side == "ours" else "improved"
    worker = Worker(subject.models, fidelity, subject.recipe.whisper)
    worker.models.aligner(subject.recipe.align_language)
    worker.models.get_ready_for_more()

    def transcribe(recording: Path, clip_s: float | None) -> Run:
        result_url = f"{storage}result-{recording.stem}.json"
        return worker.run(f"{storage}{recording.name}", result_url, clip_s)

    return transcribe

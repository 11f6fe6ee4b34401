"""Both sides in turns, each time in a fresh process: A B A B.

*Ours* is the worker's own runtime, which fetches recordings from storage and delivers to it;
*stock* is `bench.stock` on the worker's device and batch, and reads files. Turns let slow minutes
of the machine fall on both. Takes `Subject`s and a number of rounds; returns `Run`s. Raises
`JobFailed`. All that the benchmarks know of the worker's inside is here.
"""

from __future__ import annotations

import gc
import os
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import requests

from bench.corpus import Hypothesis, read_transcript
from bench.speed.inputs import Storage, write_input
from bench.speed.measure import memory_peak, synchronize
from bench.stock import Recipe, StockModels, load_models, transcribe

STEPS = {"fetch": "load", "decode": "load", "speech": "transcribe"}
"""The steps of stock's recipe that our stages are part of; the others have the same names."""
WARM_UP_S = 20.0
T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """One job, done.

    Attributes:
        wall_s: From the job's input to its output, with the transcript delivered.
        timings_s: Seconds by step of stock's recipe; ours overlap and add up to more.
        heard: What the transcript has.
    """

    wall_s: float
    timings_s: dict[str, float]
    heard: Hypothesis


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


class JobFailed(Exception):
    """The worker did not deliver; the text is its own."""


class Worker:
    """A worker's runtime on the models of a folder; `settings` are `WorkerSettings`' fields."""

    def __init__(self, models: Path, **settings: Any) -> None:
        from worker.runtime import Runtime
        from worker.settings import WorkerSettings

        asked = {"models_dir": models, "allow_loopback_urls": True} | settings
        self.runtime = Runtime(WorkerSettings.model_validate(asked))

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        """Run a job with loaded models; return its output."""
        from worker.cancel import CancelToken
        from worker.host.progress import ProgressReporter

        self.runtime.load()
        return self.runtime.run(job, CancelToken(), ProgressReporter([], 1.0))

    def run(self, audio_url: str, result_url: str, clip_s: float | None = None) -> Run:
        """Run one job, on its first `clip_s` seconds or all of it.

        Raises:
            JobFailed: It was not delivered.
        """
        job: dict[str, Any] = {"audio_url": audio_url, "result_url": result_url}
        if clip_s:
            job["clip"] = {"start_s": 0.0, "end_s": clip_s}
        started = time.perf_counter()
        output = self.do(job)
        synchronize()
        wall_s = time.perf_counter() - started
        if output.get("status") != "ok":
            raise JobFailed(str(output.get("error") or output.get("failure") or output))
        document = requests.get(result_url, timeout=60).json()
        return Run(wall_s, by_step(output["timings"]), read_transcript(document))


def by_step(timings_s: dict[str, float]) -> dict[str, float]:
    """Add our stages up to the steps of stock's recipe."""
    steps: defaultdict[str, float] = defaultdict(float)
    for stage, seconds in timings_s.items():
        steps[STEPS.get(stage, stage)] += seconds
    return dict(steps)


def run_stock(models: StockModels, recording: Path, clip_s: float | None) -> Run:
    """Go through the README's recipe once, from the file to words with speakers."""
    started = time.perf_counter()
    result = transcribe(models, recording, clip_s)
    wall_s = time.perf_counter() - started
    return Run(wall_s, result.timings_s, read_transcript(result.transcript))


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


def measure(subject: Subject, folder: Path, storage: str) -> dict[str, Run]:
    """Load, warm up on the beginning of the first recording, run each recording once."""
    recordings = [write_input(name, folder) for name in subject.recordings]
    run = _load(subject, storage)
    run(recordings[0], WARM_UP_S)
    runs = {}
    for recording in recordings:
        gc.collect()
        runs[recording.stem] = run(recording, None)
    return runs


def measure_peak(subject: Subject, folder: Path, storage: str) -> dict[str, float]:
    """Load, and run the first recording without a warm-up; return its memory and seconds."""
    recording = write_input(subject.recordings[0], folder)
    run = _load(subject, storage)
    gc.collect()
    with memory_peak() as memory:
        wall_s = run(recording, None).wall_s
    return memory | {"wall_s": wall_s}


def _load(subject: Subject, storage: str) -> Callable[[Path, float | None], Run]:
    """Load a side's models; return what runs a recording, or so many seconds of it."""
    if subject.side == "stock":
        return partial(run_stock, load_models(subject.models, subject.recipe.as_the_worker()))
    fidelity = "stock" if subject.side == "ours" else "improved"
    worker = Worker(subject.models, fidelity=fidelity, whisper_model=subject.recipe.whisper)
    models = worker.runtime.load()
    models.aligner(subject.recipe.align_language)
    models.get_ready_for_more()
    return lambda recording, clip_s: worker.run(
        f"{storage}{recording.name}", f"{storage}result-{recording.stem}.json", clip_s
    )

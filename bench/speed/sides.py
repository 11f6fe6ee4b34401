"""The two sides: the worker's own runtime, and `bench.stock` on the worker's device and batch.

Takes a models folder, then recordings: ours fetches them from storage and delivers to it, stock
reads files. Returns `Run`s. Raises `JobFailed`. All that the benchmarks know of the worker's inside
is here.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import requests

from bench.corpus import Hypothesis, read_recording, read_transcript, to_float32
from bench.speed.measure import synchronize, timed
from bench.stock import StockModels, transcribe

STEPS = {"fetch": "load", "decode": "load", "speech": "transcribe"}
"""The steps of stock's recipe that our stages are part of; the others have the same names."""


@dataclass(frozen=True)
class Run:
    """One job, done.

    Attributes:
        wall_s: From the job's input to its output, with the transcript delivered.
        timings_s: The worker's own seconds by stage; stages that overlap add up to more.
        heard: What the transcript has.
    """

    wall_s: float
    timings_s: dict[str, float]
    heard: Hypothesis


class JobFailed(Exception):
    """The worker did not deliver; the text is its own."""


class Worker:
    """A worker's runtime with the models of a folder loaded.

    Args:
        models: The folder.
        fidelity: The worker's setting.
        whisper: None: the folder's default.
    """

    def __init__(
        self,
        models: Path,
        fidelity: Literal["stock", "improved"] = "stock",
        whisper: str | None = None,
    ) -> None:
        from worker.runtime import Runtime
        from worker.settings import WorkerSettings

        self.runtime = Runtime(
            WorkerSettings(
                models_dir=models,
                whisper_model=whisper,
                allow_loopback_urls=True,
                fidelity=fidelity,
            )
        )
        self.models: Any = self.runtime.load()

    def run(self, audio_url: str, result_url: str, clip_s: float | None = None) -> Run:
        """Run one job, on its first `clip_s` seconds or all of it.

        Raises:
            JobFailed: It was not delivered.
        """
        from worker.cancel import CancelToken
        from worker.host.progress import ProgressReporter

        job: dict[str, Any] = {"audio_url": audio_url, "result_url": result_url}
        if clip_s:
            job["clip"] = {"start_s": 0.0, "end_s": clip_s}
        progress = ProgressReporter([], 1.0)
        started = time.perf_counter()
        output = self.runtime.run(job, CancelToken(), progress)
        synchronize()
        wall_s = time.perf_counter() - started
        if output.get("status") != "ok":
            raise JobFailed(str(output.get("error") or output.get("failure") or output))
        document = requests.get(result_url, timeout=60).json()
        return Run(wall_s, output["timings"], read_transcript(document))


def by_step(timings_s: dict[str, float]) -> dict[str, float]:
    """Add our stages up to the steps of stock's recipe."""
    steps: dict[str, float] = {}
    for stage, seconds in timings_s.items():
        step = STEPS.get(stage, stage)
        steps[step] = steps.get(step, 0.0) + seconds
    return steps


def run_stock(models: StockModels, recording: Path, clip_s: float | None = None) -> Run:
    """Go through the README's recipe once, from the file to words with speakers."""
    loading_s: dict[str, float] = {}
    started = time.perf_counter()
    with timed("load", loading_s):
        audio = to_float32(read_recording(recording))
        if clip_s:
            audio = audio[: round(clip_s * 16_000)]
    result = transcribe(models, audio)
    wall_s = time.perf_counter() - started
    return Run(wall_s, loading_s | result.timings_s, read_transcript(result.transcript))

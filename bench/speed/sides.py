"""Our side: the worker's own runtime, its models loaded once, jobs from loopback storage.

All that the benchmarks know of the worker's inside is here and in `bench.speed.stages`: the
runtime that ``handler.py`` uses, and the one place of the pipeline where all findings meet.

Stock's side: `bench.stock` with the worker's device, number format and batch.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from bench.corpus import Turn
from bench.speed.measure import synchronize, timed
from bench.speed.parity import Heard, Word
from bench.stock import (
    Recipe,
    StockModels,
    StockResult,
    Threads,
    load_audio,
    load_models,
    transcribe,
)

STAGES = {
    "fetch": "load",
    "decode": "load",
    "speech": "transcribe",
    "transcribe": "transcribe",
    "align": "align",
    "diarize": "diarize",
    "attribute": "attribute",
    "deliver": "deliver",
}
"""Our stages by the step of stock's recipe that does the same."""


@dataclass(frozen=True)
class Job:
    """What to transcribe, and where the result goes.

    Attributes:
        audio_url: Where the recording is fetched.
        result_url: Where the transcript is put.
        clip_s: Only that much from the start; None: all of it.
    """

    audio_url: str
    result_url: str
    clip_s: float | None = None

    def to_input(self) -> dict[str, Any]:
        """Return the job's input, as the edge sends it."""
        job: dict[str, Any] = {"audio_url": self.audio_url, "result_url": self.result_url}
        return job | ({"clip": {"start_s": 0.0, "end_s": self.clip_s}} if self.clip_s else {})


@dataclass(frozen=True)
class Run:
    """One job, done.

    Attributes:
        wall_s: From the job's input to its output, with the transcript delivered.
        timings_s: The worker's own seconds by stage; stages that overlap add up to more.
        heard: What the pipeline found, before it became a document.
    """

    wall_s: float
    timings_s: dict[str, float]
    heard: Heard


class JobFailed(Exception):
    """The worker did not deliver; the text is its own."""


class Worker:
    """A worker's runtime with its models loaded.

    Args:
        models: The folder that it loads.
        whisper: A Whisper of that folder; None: its default.
    """

    def __init__(self, models: Path, whisper: str | None = None) -> None:
        from worker.runtime import Runtime
        from worker.settings import WorkerSettings

        settings = WorkerSettings(
            models_dir=models, whisper_model=whisper, allow_loopback_urls=True
        )
        self.runtime = Runtime(settings)
        self.models: Any = self.runtime.load()
        self._findings: list[Any] = []
        self._watch()

    def run(self, job: Job) -> Run:
        """Run one job.

        Raises:
            JobFailed: It was not delivered.
        """
        from worker.cancel import CancelToken
        from worker.host.progress import ProgressReporter

        self._findings.clear()
        progress = ProgressReporter([], 1.0)
        started = time.perf_counter()
        output = self.runtime.run(job.to_input(), CancelToken(), progress)
        synchronize()
        wall_s = time.perf_counter() - started
        if output.get("status") != "ok":
            raise JobFailed(str(output.get("error") or output.get("failure") or output))
        return Run(wall_s, output["timings"], _heard_by_ours(self._findings[-1]))

    def _watch(self) -> None:
        """Keep what the pipeline's stages found, on its way into the document."""
        pipeline: Any = import_module("worker.pipeline")
        compose = pipeline.compose

        def composed(job: Any, models: Any, findings: Any, segments: Any, *rest: Any) -> Any:
            self._findings.append((findings, segments))
            return compose(job, models, findings, segments, *rest)

        pipeline.compose = composed


def by_step(timings_s: dict[str, float]) -> dict[str, float]:
    """Add our stages up to the steps of stock's recipe."""
    steps: dict[str, float] = {}
    for stage, seconds in timings_s.items():
        step = STAGES.get(stage, stage)
        steps[step] = steps.get(step, 0.0) + seconds
    return steps


def _heard_by_ours(found: tuple[Any, Any]) -> Heard:
    findings, segments = found
    return Heard(
        segments=tuple(segment.text for segment in findings.transcription.segments),
        sentences=tuple(segment.text.strip() for segment in segments),
        words=tuple(
            Word(word.word, word.start, word.end, word.speaker)
            for segment in segments
            for word in segment.words
        ),
        turns=tuple(
            Turn(turn.start, turn.end, turn.speaker) for turn in findings.diarization.turns
        ),
        language=findings.transcription.language,
    )


def load(models: Path, recipe: Recipe) -> StockModels:
    """Load stock's models for the device that the worker would take.

    Args:
        models: The folder that the worker loads too.
        recipe: Device, number format and batch in it are replaced.
    """
    from worker.models.device import choose_device
    from worker.settings import WorkerSettings

    device = choose_device(WorkerSettings())
    return load_models(
        models,
        replace(
            recipe,
            device=device.name,
            compute_type=device.compute_type,
            batch_size=device.batch_size,
        ),
    )


def run(models: StockModels, recording: Path, clip_s: float | None = None) -> Run:
    """Go through the README's recipe once, from the file to words with speakers."""
    loading_s: dict[str, float] = {}
    started = time.perf_counter()
    with timed("load", loading_s):
        audio = load_audio(recording)
        if clip_s:
            audio = audio[: round(clip_s * 16_000)]
    result = transcribe(models, audio)
    wall_s = time.perf_counter() - started
    return Run(wall_s, loading_s | result.timings_s, _heard_by_stock(result))


def recipe_of(document: dict[str, Any]) -> Recipe:
    """Read a recipe that `dataclasses.asdict` and JSON made of one."""
    return Recipe(**{**document, "threads": Threads(**document.get("threads", {}))})


def _heard_by_stock(result: StockResult) -> Heard:
    segments = result.transcript["segments"]
    return Heard(
        segments=tuple(chunk["text"] for chunk in result.chunks),
        sentences=tuple(segment["text"].strip() for segment in segments),
        words=tuple(
            Word(word["word"], word.get("start"), word.get("end"), word.get("speaker"))
            for segment in segments
            for word in segment["words"]
        ),
        turns=result.turns,
        language=result.language,
    )

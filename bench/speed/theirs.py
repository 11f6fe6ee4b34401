"""Stock's side: `bench.stock` with the worker's device, number format and batch."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.speed.gauges import timed
from bench.speed.ours import Run
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


def load(models: Path, recipe: Recipe) -> StockModels:
    """Load stock's models for the device that the worker would take.

    Args:
        models: The folder that the worker loads too.
        recipe: Device, number format and batch in it are replaced.
    """
    from worker.device import choose_device
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
    return Run(wall_s, loading_s | result.timings_s, _heard(result))


def recipe_of(document: dict[str, Any]) -> Recipe:
    """Read a recipe that `dataclasses.asdict` and JSON made of one."""
    return Recipe(**{**document, "threads": Threads(**document.get("threads", {}))})


def _heard(result: StockResult) -> Heard:
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

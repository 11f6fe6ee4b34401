"""Stock WhisperX, as its README uses it, on the weights of a models folder.

``load_model``, ``transcribe``, ``align``, ``DiarizationPipeline``, ``assign_word_speakers``, with
options left alone; models are paths, and PyAV decodes in the place of the ffmpeg command (same
samples). Takes recordings; returns `StockResult`s. ``python -m bench.stock MODELS RECORDING
RESULT`` is a process that transcribes one recording.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.corpus import SAMPLE_RATE_HZ, read_recording, to_float32
from bench.speed.measure import timed
from worker.models.imports import go_offline


@dataclass(frozen=True)
class Recipe:
    """What the README leaves open.

    Attributes:
        whisper: A Whisper of the folder's profile; None: its default.
        language: Told to ``load_model``; None: detected, unless the model is English-only.
        align_language: Of the aligner that is loaded, once.
        device: ``cpu`` or ``cuda``.
        compute_type: CTranslate2's number format; int8 is what the worker takes on a CPU.
        batch_size: Chunks decoded at once; whisperx's command line has 8, its README 16, and
            results differ only by memory and time.
    """

    whisper: str | None = None
    language: str | None = None
    align_language: str = "en"
    device: str = "cpu"
    compute_type: str = "int8"
    batch_size: int = 8

    def as_the_worker(self, *settings: Any) -> Recipe:
        """Return it with the device, number format and batch of a worker with these settings."""
        from worker.models.device import choose_device
        from worker.settings import WorkerSettings

        its = choose_device(*settings or (WorkerSettings(),))
        return replace(
            self, device=its.name, compute_type=its.compute_type, batch_size=its.batch_size
        )


@dataclass(frozen=True)
class StockModels:
    """WhisperX's models, loaded as a recipe says."""

    whisper: Any
    aligner: Any
    align_metadata: Any
    diarizer: Any
    recipe: Recipe


@dataclass(frozen=True)
class StockResult:
    """What WhisperX makes of a recording (``segments``, ``word_segments``); seconds by stage."""

    transcript: dict[str, Any]
    timings_s: dict[str, float]


def load_models(folder: Path, recipe: Recipe) -> StockModels:
    """Load what a recipe wants from a folder that `builder.fetch_models` made."""
    profile = json.loads((folder / "profile.json").read_text())
    go_offline((folder / profile["nltk_data"]).resolve())  # before the libraries are imported
    import whisperx
    from whisperx.diarize import DiarizationPipeline

    name = recipe.whisper or profile["whisper"]["default"]
    entry = profile["align"][recipe.align_language]
    path = str(folder / entry["path"])
    is_bundle = entry.get("kind") == "torchaudio"  # by its name, and its weights by their folder
    where = {"model_name": entry["name"], "model_dir": path} if is_bundle else {"model_name": path}
    aligner, align_metadata = whisperx.load_align_model(
        recipe.align_language, recipe.device, **where
    )
    whisper = whisperx.load_model(
        str(folder / profile["whisper"]["models"][name]["path"]),
        recipe.device,
        compute_type=recipe.compute_type,
        language=recipe.language,
    )
    diarization = folder / profile["diarization"]["path"]
    diarizer = DiarizationPipeline(str(diarization), device=recipe.device)
    return StockModels(whisper, aligner, align_metadata, diarizer, recipe)


def transcribe(models: StockModels, recording: Path, clip_s: float | None = None) -> StockResult:
    """Run the README's recipe on the first `clip_s` seconds of a recording, or on all of it."""
    import whisperx

    recipe = models.recipe
    timings_s: dict[str, float] = {}
    with timed("load", timings_s):
        audio = to_float32(read_recording(recording))
        if clip_s:
            audio = audio[: round(clip_s * SAMPLE_RATE_HZ)]
    with timed("transcribe", timings_s):
        heard = models.whisper.transcribe(audio, batch_size=recipe.batch_size)
    with timed("align", timings_s):
        result = whisperx.align(
            heard["segments"],
            models.aligner,
            models.align_metadata,
            audio,
            recipe.device,
            return_char_alignments=False,
        )
    with timed("diarize", timings_s):
        diarization = models.diarizer(audio)
    with timed("attribute", timings_s):
        result = whisperx.assign_word_speakers(diarization, result)
    return StockResult(result, timings_s)


def transcribe_files(folder: Path, recordings: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the transcripts of English recordings, on the CPU; for a process of its own."""
    models = load_models(folder, Recipe(language="en"))
    return [transcribe(models, recording).transcript for recording in recordings]


def main() -> None:
    """Load, transcribe, write the transcript."""
    models, recording, result = map(Path, sys.argv[1:])
    stock = load_models(models, Recipe().as_the_worker())
    result.write_text(json.dumps(transcribe(stock, recording).transcript, default=float))


if __name__ == "__main__":
    main()

"""Stock WhisperX, as its README uses it, on the weights of a models folder.

The recipe is `whisperx.load_model` → `transcribe` → `align` → `DiarizationPipeline` →
`assign_word_speakers` with the options left alone. Two things differ, because there is no
network and no ffmpeg binary here: every model is a path, and in `load_audio` PyAV decodes in the
place of the ffmpeg command (same samples, same arrays: int16 as bytes, then / 32768).

``python -m bench.stock --models DIR RECORDING…`` prints one JSON object a recording: WhisperX's
result, the diarizer's own turns, and seconds by stage. It runs in a process of its own, so that
what it loads is gone when something else is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.corpus import Turn, read_recording
from bench.speed.measure import timed

DEVICE = "cpu"
BATCH_SIZE = 8
"""whisperx's command line has 8, its README 16: results differ only by memory and time."""


@dataclass(frozen=True)
class Threads:
    """CPU threads; None leaves alone what the library does by itself.

    Attributes:
        whisper: Of CTranslate2, as ``whisperx.load_model`` takes them; its own default is 4.
        torch: Of torch, as ``torch.set_num_threads`` takes them; its own default is the cores.
        again: Set torch's again after each transcription: CTranslate2 overwrites them.
    """

    whisper: int | None = None
    torch: int | None = None
    again: bool = False


@dataclass(frozen=True)
class Recipe:
    """What the README leaves open.

    Attributes:
        whisper: A Whisper of the folder's profile; None: its default.
        language: Told to ``load_model``; None: detected, unless the model is English-only.
        align_language: Of the aligner that is loaded, once.
        device: ``cpu`` or ``cuda``.
        compute_type: CTranslate2's number format; int8 is what the worker takes on a CPU.
        batch_size: Chunks decoded at once.
        threads: README: nothing is set.
    """

    whisper: str | None = None
    language: str | None = None
    align_language: str = "en"
    device: str = DEVICE
    compute_type: str = "int8"
    batch_size: int = BATCH_SIZE
    threads: Threads = Threads()


@dataclass(frozen=True)
class StockModels:
    """WhisperX's models, loaded as a recipe says."""

    recogniser: Any
    aligner: Any
    align_metadata: Any
    diarizer: Any
    recipe: Recipe


@dataclass(frozen=True)
class StockResult:
    """What WhisperX makes of one recording.

    Attributes:
        transcript: WhisperX's result: ``segments`` and ``word_segments``.
        turns: The diarizer's turns, before they are put on words.
        timings_s: Seconds by stage.
        chunks: What Whisper said in each chunk, before alignment.
        language: As told or detected.
    """

    transcript: dict[str, Any]
    turns: tuple[Turn, ...]
    timings_s: dict[str, float] = field(default_factory=dict)
    chunks: tuple[dict[str, Any], ...] = ()
    language: str | None = None


def load_models(folder: Path, recipe: Recipe) -> StockModels:
    """Load everything from a folder that `builder.fetch_models` made.

    Args:
        folder: Holds ``profile.json``, which says where each model is.
        recipe: What to load.
    """
    profile = json.loads((folder / "profile.json").read_text())
    _stay_offline(folder / profile["nltk_data"])
    import torch
    import whisperx
    from whisperx.diarize import DiarizationPipeline

    threads = recipe.threads
    if threads.torch:
        torch.set_num_threads(threads.torch)
    whisper = profile["whisper"]["models"][recipe.whisper or profile["whisper"]["default"]]["path"]
    aligner, align_metadata = whisperx.load_align_model(
        recipe.align_language,
        recipe.device,
        model_name=str(folder / profile["align"][recipe.align_language]["path"]),
    )
    return StockModels(
        recogniser=whisperx.load_model(
            str(folder / whisper),
            recipe.device,
            compute_type=recipe.compute_type,
            language=recipe.language,
            **({"threads": threads.whisper} if threads.whisper else {}),
        ),
        aligner=aligner,
        align_metadata=align_metadata,
        diarizer=DiarizationPipeline(
            str(folder / profile["diarization"]["path"]), device=recipe.device
        ),
        recipe=recipe,
    )


def load_audio(recording: Path) -> npt.NDArray[np.float32]:
    """Do as ``whisperx.load_audio`` does, array by array, with PyAV for ffmpeg's output."""
    output = bytes(read_recording(recording))
    return np.frombuffer(output, np.int16).flatten().astype(np.float32) / np.float32(32768.0)


def transcribe(models: StockModels, audio: npt.NDArray[np.float32]) -> StockResult:
    """Run the README's recipe on one recording.

    Args:
        models: Loaded once, used for any number of recordings.
        audio: Shape (n_samples,), 16 kHz, in [-1, 1).
    """
    import whisperx

    recipe = models.recipe
    timings_s: dict[str, float] = {}
    with timed("transcribe", timings_s):
        heard = models.recogniser.transcribe(audio, batch_size=recipe.batch_size)
    _set_threads_again(recipe.threads)
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
    turns = zip(diarization["start"], diarization["end"], diarization["speaker"], strict=True)
    return StockResult(
        transcript=result,
        turns=tuple(Turn(float(start), float(end), speaker) for start, end, speaker in turns),
        timings_s=timings_s,
        chunks=tuple(heard["segments"]),
        language=heard["language"],
    )


def main() -> None:
    """Transcribe the recordings named on the command line; one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.stock", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR")
    parser.add_argument("recordings", type=Path, nargs="+")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # whisperx prints; stdout is for the results
        threads = Threads(whisper=len(os.sched_getaffinity(0)))
        models = load_models(options.models, Recipe(language="en", threads=threads))
    for recording in options.recordings:
        with contextlib.redirect_stdout(sys.stderr):
            result = transcribe(models, load_audio(recording))
        print(json.dumps(_document(recording, result)), flush=True)


def _document(recording: Path, result: StockResult) -> dict[str, Any]:
    return {
        "recording": str(recording),
        "segments": result.transcript["segments"],
        "turns": [[turn.start_s, turn.end_s, turn.speaker] for turn in result.turns],
        "timings_s": {stage: round(seconds, 3) for stage, seconds in result.timings_s.items()},
    }


def _stay_offline(nltk_data: Path) -> None:
    """Set what must be set before the libraries are imported."""
    os.environ.update(
        HF_HUB_OFFLINE="1", PYANNOTE_METRICS_ENABLED="0", NLTK_DATA=str(nltk_data.resolve())
    )


def _set_threads_again(threads: Threads) -> None:
    if threads.torch and threads.again:
        import torch

        torch.set_num_threads(threads.torch)


if __name__ == "__main__":
    main()

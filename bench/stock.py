"""Stock WhisperX, as its README uses it, on the weights of a models folder.

The recipe is `whisperx.load_model` → `transcribe` → `align` → `DiarizationPipeline` →
`assign_word_speakers` with the options left alone. Two things differ, because there is no
network and no ffmpeg binary here: every model is a path, and `load_audio` is replaced by an
array that PyAV decoded (same samples: int16 / 32768, 16 kHz mono).

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
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.audio_files import read_recording, to_float32
from bench.references import Turn

DEVICE = "cpu"
BATCH_SIZE = 8
"""whisperx's command line has 8, its README 16: results differ only by memory and time."""


@dataclass(frozen=True)
class StockModels:
    """WhisperX's models, loaded."""

    recogniser: Any
    aligner: Any
    align_metadata: Any
    diarizer: Any


@dataclass(frozen=True)
class StockResult:
    """What WhisperX makes of one recording.

    Attributes:
        transcript: WhisperX's result: ``segments`` and ``word_segments``.
        turns: The diarizer's turns, before they are put on words.
        timings_s: Seconds by stage.
    """

    transcript: dict[str, Any]
    turns: tuple[Turn, ...]
    timings_s: dict[str, float] = field(default_factory=dict)


def load_models(folder: Path, compute_type: str = "int8") -> StockModels:
    """Load everything from a folder that `builder.fetch_models` made.

    Args:
        folder: Holds ``profile.json``, which says where each model is.
        compute_type: CTranslate2's number format; int8 is what the worker takes on a CPU.
    """
    profile = json.loads((folder / "profile.json").read_text())
    _stay_offline(folder / profile["nltk_data"])
    import whisperx
    from whisperx.diarize import DiarizationPipeline

    whisper = profile["whisper"]["models"][profile["whisper"]["default"]]["path"]
    aligner, align_metadata = whisperx.load_align_model(
        "en", DEVICE, model_name=str(folder / profile["align"]["en"]["path"])
    )
    return StockModels(
        recogniser=whisperx.load_model(
            str(folder / whisper),
            DEVICE,
            compute_type=compute_type,
            language="en",
            threads=len(os.sched_getaffinity(0)),
        ),
        aligner=aligner,
        align_metadata=align_metadata,
        diarizer=DiarizationPipeline(str(folder / profile["diarization"]["path"]), device=DEVICE),
    )


def transcribe(models: StockModels, audio: npt.NDArray[np.float32]) -> StockResult:
    """Run the README's recipe on one recording.

    Args:
        models: Loaded once, used for any number of recordings.
        audio: Shape (n_samples,), 16 kHz, in [-1, 1).
    """
    import whisperx

    timings_s: dict[str, float] = {}
    with _timed("transcribe", timings_s):
        result = models.recogniser.transcribe(audio, batch_size=BATCH_SIZE)
    with _timed("align", timings_s):
        result = whisperx.align(
            result["segments"],
            models.aligner,
            models.align_metadata,
            audio,
            DEVICE,
            return_char_alignments=False,
        )
    with _timed("diarize", timings_s):
        diarization = models.diarizer(audio)
    with _timed("attribute", timings_s):
        result = whisperx.assign_word_speakers(diarization, result)
    turns = zip(diarization["start"], diarization["end"], diarization["speaker"], strict=True)
    return StockResult(
        transcript=result,
        turns=tuple(Turn(float(start), float(end), speaker) for start, end, speaker in turns),
        timings_s=timings_s,
    )


def main() -> None:
    """Transcribe the recordings named on the command line; one JSON object a line."""
    parser = argparse.ArgumentParser(prog="python -m bench.stock", description=__doc__)
    parser.add_argument("--models", type=Path, required=True, metavar="DIR")
    parser.add_argument("recordings", type=Path, nargs="+")
    options = parser.parse_args()
    with contextlib.redirect_stdout(sys.stderr):  # whisperx prints; stdout is for the results
        models = load_models(options.models)
    for recording in options.recordings:
        with contextlib.redirect_stdout(sys.stderr):
            result = transcribe(models, to_float32(read_recording(recording)))
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


@contextlib.contextmanager
def _timed(stage: str, timings_s: dict[str, float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    timings_s[stage] = time.perf_counter() - started


if __name__ == "__main__":
    main()

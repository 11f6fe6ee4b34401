"""One process of `bench.cold_start`, which imports nothing before its clock runs.

``python -m bench.speed.cold_process KIND MODELS AUDIO_URL RESULT_URL BEGAN`` prints seconds as
JSON; BEGAN is the Unix time at which the process was asked for.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main() -> None:
    """Measure."""
    kind, models, audio_url, result_url, began = sys.argv[1:]
    with contextlib.redirect_stdout(sys.stderr):
        seconds = KINDS[kind](Path(models), float(began), audio_url, result_url)
    print(json.dumps(seconds))


def load_one_after_the_other(models: Path, began: float, *_: str) -> dict[str, float]:
    """Import and load as a worker does it that knows nothing better.

    Returns:
        Seconds by cause; together from the process's start to the last model.
    """
    clock = _Laps(began)
    profile = json.loads((models / "profile.json").read_text())
    os.environ.update(
        HF_HUB_OFFLINE="1",
        PYANNOTE_METRICS_ENABLED="0",
        NLTK_DATA=str((models / profile["nltk_data"]).resolve()),
    )
    clock.lap("python")
    import runpod  # noqa: F401

    clock.lap("import the SDK")
    import torch  # noqa: F401

    clock.lap("import torch")
    import whisperx
    import whisperx.alignment
    import whisperx.asr

    clock.lap("import whisperx")
    from whisperx.diarize import DiarizationPipeline
    from whisperx.vads import Pyannote

    clock.lap("import pyannote")
    from worker.models.device import choose_device
    from worker.runtime import Runtime  # noqa: F401
    from worker.settings import WorkerSettings

    device = choose_device(WorkerSettings())
    clock.lap("import the worker")
    detector = Pyannote(
        device.torch_device,
        model_fp=str(models / profile["vad"]["path"]),
        vad_onset=0.5,
        vad_offset=0.363,
    )
    clock.lap("speech detector")
    name = profile["whisper"]["default"]
    whisperx.load_model(
        str(models / profile["whisper"]["models"][name]["path"]),
        device.name,
        compute_type=device.compute_type,
        vad_model=detector,
    )
    clock.lap("Whisper")
    DiarizationPipeline(str(models / profile["diarization"]["path"]), device=device.torch_device)
    clock.lap("diarization")
    whisperx.load_align_model(
        "en", device.name, model_name=str(models / profile["align"]["en"]["path"])
    )
    clock.lap("aligner")
    return clock.seconds


def run_first_job(models: Path, _: float, audio_url: str, result_url: str) -> dict[str, float]:
    """Get a worker ready, aligner included, and run its first job."""
    from bench.speed.sides import Worker

    worker = Worker(models)
    worker.models.aligner("en")
    return {"first job": worker.run(audio_url, result_url).wall_s}


class _Laps:
    """A stop watch: each lap is the time since the one before."""

    def __init__(self, began: float) -> None:
        self._last = began
        self.seconds: dict[str, float] = {}

    def lap(self, cause: str) -> None:
        now = time.time()
        self.seconds[cause] = now - self._last
        self._last = now


KINDS: dict[str, Callable[..., dict[str, float]]] = {
    "serial": load_one_after_the_other,
    "ready": run_first_job,
}


if __name__ == "__main__":
    main()

"""One process of `bench.cold_start`, which imports nothing before its clock runs.

``python -m bench.speed.cold_process MODELS BEGAN`` prints seconds as JSON; `image.start_times` runs
it in the image, where nothing else of bench is.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path


def load_one_after_the_other(models: Path, began: float) -> dict[str, float]:
    """Import and load as a worker does it that knows nothing better.

    Args:
        models: The models folder.
        began: The Unix time at which the process was asked for.

    Returns:
        Seconds by cause; together from `began` to the last model.
    """
    seconds: dict[str, float] = {}

    def lap(cause: str) -> None:
        seconds[cause] = time.time() - began - sum(seconds.values())

    profile = json.loads((models / "profile.json").read_text())
    os.environ.update(
        HF_HUB_OFFLINE="1",
        PYANNOTE_METRICS_ENABLED="0",
        NLTK_DATA=str((models / profile["nltk_data"]).resolve()),
    )
    lap("python")
    import runpod  # noqa: F401

    lap("import the SDK")
    import torch  # noqa: F401

    lap("import torch")
    import whisperx
    import whisperx.alignment
    import whisperx.asr

    lap("import whisperx")
    from whisperx.diarize import DiarizationPipeline
    from whisperx.vads import Pyannote

    lap("import pyannote")
    from worker.models.device import choose_device
    from worker.runtime import Runtime  # noqa: F401
    from worker.settings import WorkerSettings

    device = choose_device(WorkerSettings())
    lap("import the worker")
    detector = Pyannote(
        device.torch_device,
        model_fp=str(models / profile["vad"]["path"]),
        vad_onset=0.5,
        vad_offset=0.363,
    )
    lap("speech detector")
    name = profile["whisper"]["default"]
    whisperx.load_model(
        str(models / profile["whisper"]["models"][name]["path"]),
        device.name,
        compute_type=device.compute_type,
        vad_model=detector,
    )
    lap("Whisper")
    DiarizationPipeline(str(models / profile["diarization"]["path"]), device=device.torch_device)
    lap("diarization")
    whisperx.load_align_model(
        "en", device.name, model_name=str(models / profile["align"]["en"]["path"])
    )
    lap("aligner")
    return seconds


def main() -> None:
    """Measure, and print what was measured."""
    with contextlib.redirect_stdout(sys.stderr):  # whisperx prints
        seconds = load_one_after_the_other(Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()

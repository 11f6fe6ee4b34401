"""One process of `bench.cold_start`, which imports nothing before its clock runs.

``python -m bench.speed.cold_process MODELS BEGAN`` prints seconds as JSON. It needs nothing else of
bench, so that it runs in the image, too.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


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
    _import_libraries(lap)
    _load_models(models, profile, lap)
    return seconds


def _import_libraries(lap: Callable[[str], None]) -> None:
    import runpod  # noqa: F401

    lap("import the SDK")
    import torch  # noqa: F401

    lap("import torch")
    import whisperx.alignment
    import whisperx.asr  # noqa: F401

    lap("import whisperx")
    import whisperx.diarize
    import whisperx.vads  # noqa: F401

    lap("import pyannote")


def _load_models(models: Path, profile: dict[str, Any], lap: Callable[[str], None]) -> None:
    import whisperx
    from whisperx.diarize import DiarizationPipeline
    from whisperx.vads import Pyannote

    from worker.models.device import choose_device
    from worker.runtime import Runtime  # noqa: F401
    from worker.settings import WorkerSettings

    device = choose_device(WorkerSettings())
    lap("import the worker")
    segmentation = str(models / profile["vad"]["path"])
    detector = Pyannote(device.torch_device, model_fp=segmentation, vad_onset=0.5, vad_offset=0.363)
    lap("speech detector")
    whisper = profile["whisper"]["models"][profile["whisper"]["default"]]
    path, compute_type = str(models / whisper["path"]), device.compute_type
    whisperx.load_model(path, device.name, compute_type=compute_type, vad_model=detector)
    lap("Whisper")
    DiarizationPipeline(str(models / profile["diarization"]["path"]), device=device.torch_device)
    lap("diarization")
    aligner = str(models / profile["align"]["en"]["path"])
    whisperx.load_align_model("en", device.name, model_name=aligner)
    lap("aligner")


def main() -> None:
    """Measure, and print what was measured."""
    with contextlib.redirect_stdout(sys.stderr):  # whisperx prints
        seconds = load_one_after_the_other(Path(sys.argv[1]), float(sys.argv[2]))
    print(json.dumps(seconds))


if __name__ == "__main__":
    main()

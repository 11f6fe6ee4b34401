"""Load a worker one thing after another: ``python -m bench.speed.cold_process MODELS``.

`bench.speed.cold_start` times the process. It imports nothing else of bench, and takes neither the
worker's stand-ins nor its threads.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def load_one_after_the_other(models: Path) -> None:
    """Import and load as a worker does it that knows nothing better."""
    profile = json.loads((models / "profile.json").read_text())
    os.environ.update(
        HF_HUB_OFFLINE="1",
        PYANNOTE_METRICS_ENABLED="0",
        NLTK_DATA=str((models / profile["nltk_data"]).resolve()),
    )
    import runpod  # noqa: F401
    import torch  # noqa: F401
    import whisperx
    from whisperx.diarize import DiarizationPipeline
    from whisperx.vads import Pyannote

    from worker.models.device import choose_device
    from worker.runtime import Runtime  # noqa: F401
    from worker.settings import WorkerSettings

    device = choose_device(WorkerSettings())
    segmentation = str(models / profile["vad"]["path"])
    detector = Pyannote(device.torch_device, model_fp=segmentation, vad_onset=0.5, vad_offset=0.363)
    whisper = profile["whisper"]["models"][profile["whisper"]["default"]]
    path, compute_type = str(models / whisper["path"]), device.compute_type
    whisperx.load_model(path, device.name, compute_type=compute_type, vad_model=detector)
    DiarizationPipeline(str(models / profile["diarization"]["path"]), device=device.torch_device)
    aligner = str(models / profile["align"]["en"]["path"])
    whisperx.load_align_model("en", device.name, model_name=aligner)


if __name__ == "__main__":
    load_one_after_the_other(Path(sys.argv[1]))
    sys.stdout.flush()
    os._exit(0)  # what a worker does at its end is none of its start

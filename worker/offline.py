"""Import this before torch, pyannote or whisperx: nothing is fetched, nothing is reported.

pyannote reports durations and speaker counts to its maker unless told otherwise before its
import, and so does onnxruntime, which faster-whisper and pyannote import (1.32 does, 1.24 has no
code for it); the hubs are told that there is no network.
"""

import os
from pathlib import Path

_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "PYANNOTE_METRICS_ENABLED": "0",
    "ORT_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


def go_offline(nltk_data: Path | None = None) -> None:
    """Set the process's environment; ``nltk_data`` is where sentence splitters lie."""
    os.environ.update(_ENVIRONMENT)
    if nltk_data is not None:
        os.environ["NLTK_DATA"] = str(nltk_data)

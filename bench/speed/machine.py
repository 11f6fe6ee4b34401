"""What it was measured on: cores, memory, GPU, versions. No names of hosts."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

LIBRARIES = (
    "whisperx",
    "pyannote.audio",
    "faster-whisper",
    "ctranslate2",
    "torch",
    "transformers",
    "numpy",
)


def describe() -> dict[str, Any]:
    """Return the machine and the versions."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "ram_gib": round(psutil.virtual_memory().total / (1 << 30)),
        "gpu": _gpu(),
        "python": platform.python_version(),
        "versions": {library: version(library) for library in LIBRARIES},
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None

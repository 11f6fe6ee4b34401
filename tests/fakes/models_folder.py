"""A models folder of a few bytes, complete by its own table of contents."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

REPO, REVISION = "Systran/faster-whisper-large-v3", "edaa852"
FILES = {
    "whisper/large-v3/model.bin": b"large weights",
    "whisper/large-v3/config.json": b"{}",
    "whisper/small/model.bin": b"small",
    "vad/pytorch_model.bin": b"vad",
    "align/en/model.bin": b"en",
    "diarization/config.yaml": b"d",
    "nltk_data/tokenizers/en.txt": b"",
}


def make(folder: Path, **changes: Any) -> Path:
    """Write a models folder."""
    document = {
        "profile": "production",
        "whisper": {
            "default": "large-v3",
            "models": {n: {"path": f"whisper/{n}"} for n in ("large-v3", "small")},
        },
        "vad": {"path": "vad/pytorch_model.bin", "name": "vad"},
        "align": {"en": {"path": "align/en", "name": "en"}},
        "diarization": {"path": "diarization", "name": "d"},
        "nltk_data": "nltk_data",
        "provenance": {
            "whisper/large-v3": {"name": "l", "revision": REVISION, "pin": {"repo": REPO}},
            "vad": {"name": "v", "sources": []},
        },
        "files": {
            name: {"bytes": len(body), "sha256": sha256(body).hexdigest()}
            for name, body in FILES.items()
        },
    }
    for name, body in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    (folder / "profile.json").write_text(json.dumps(document | changes))
    return folder

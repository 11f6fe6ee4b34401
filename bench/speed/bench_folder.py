"""The folder that a benchmark works in: recordings, tasks, answers, models put together anew."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Bench:
    """Where and how much is measured.

    Attributes:
        models: The models folder of the demo profile, with the multilingual model.
        folder: For everything that is written on the way.
        pairs: How many times each side runs, in turns.
        found: What earlier parts measured, by part: the best threads are looked up in it.
    """

    models: Path
    folder: Path
    pairs: int
    found: dict[str, Any]


def derive_models(models: Path, into: Path, changes: dict[str, Any]) -> Path:
    """Make a models folder that shares another one's files and changes its profile.

    Args:
        models: The folder to start from.
        into: The new folder; what is in it stays.
        changes: Entries that replace those of ``profile.json``.
    """
    into.mkdir(parents=True, exist_ok=True)
    for entry in models.resolve().iterdir():
        link = into / entry.name
        if entry.name != "profile.json" and not link.exists():
            link.symlink_to(entry)
    profile = json.loads((models / "profile.json").read_text()) | changes
    (into / "profile.json").write_text(json.dumps(profile))
    return into

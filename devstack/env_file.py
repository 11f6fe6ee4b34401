"""The file that tells an edge client where the stack is: plain `KEY=value` lines."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write_env_file(path: Path, env: Mapping[str, str]) -> None:
    """Write `env` so that a reader sees all of it or nothing; only the owner may read it."""
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as lines:
            lines.writelines(f"{key}={value}\n" for key, value in env.items())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

"""The worker's log: JSON on RunPod, readable on a terminal; and who may write into it.

On RunPod (``RUNPOD_ENDPOINT_ID`` is set) each line is an object with the SDK's own keys
(runpod 1.12.0, ``rp_logger``): ``requestId``, ``message``, ``level``; its log viewer files lines by
these. A record's ``facts`` come as more keys. Every line passes `ScrubFilter` first.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from typing import Any

from worker.redact import ScrubFilter

_TERMINAL = "%(levelname)-7s| %(name)s | %(message)s"
_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}  # the SDK knows no others

_QUIET = {
    "faster_whisper": logging.WARNING,
    "lightning.pytorch.utilities": logging.WARNING,
    "matplotlib": logging.WARNING,
    "urllib3": logging.WARNING,
    # Its warnings quote the text they could not align. The level of "whisperx" itself is set back,
    # and a handler of its own added, when it is imported, which is after `quieten`.
    "whisperx.alignment": logging.ERROR,
    "whisperx.asr": logging.ERROR,
    "whisperx.diarize": logging.ERROR,
    "whisperx.vads": logging.ERROR,
}


class AtHand:
    """The job that the process is at: one at a time, in several threads."""

    job_id: str | None = None


at_hand = AtHand()


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        line = {
            "requestId": at_hand.job_id,
            "message": f"{record.name} | {record.getMessage()}",
            "level": _LEVELS.get(record.levelname, record.levelname),
            **facts,
        }
        return json.dumps(line, allow_nan=False, default=str)


def configure_logging() -> None:
    """Have the root logger write the worker's lines; the SDK, imported later, adds none of its own.

    Libraries that log URLs or transcript text speak up only in need.
    """
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")  # the SDK's default prints every input
    handler = logging.StreamHandler()
    on_runpod = bool(os.environ.get("RUNPOD_ENDPOINT_ID"))
    handler.setFormatter(JsonLines() if on_runpod else logging.Formatter(_TERMINAL))
    handler.addFilter(ScrubFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    quieten()


def quieten() -> None:
    """Set the levels of talkative libraries: of loggers that no import sets anew."""
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")

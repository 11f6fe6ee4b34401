"""The worker's log: one line a job, JSON on RunPod and readable on a terminal.

On RunPod (``RUNPOD_ENDPOINT_ID`` is set) each line is an object with the SDK's own keys (runpod
1.12.0, ``rp_logger``): ``requestId``, ``message``, ``level``; a record's ``facts`` are more keys.
Lines hold numbers, stages, codes and warnings, no URL and no text; `ScrubFilter` sees all of them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bucketscribe_contract import Stage
from bucketscribe_contract.redact import ScrubFilter
from worker import memory

_TERMINAL = "%(levelname)-7s| %(name)s | %(message)s"
_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}  # the SDK knows no others

_QUIET = {
    "faster_whisper": logging.WARNING,
    "lightning.pytorch.utilities": logging.WARNING,
    "matplotlib": logging.WARNING,
    "urllib3": logging.WARNING,
    # Its warnings quote the text they could not align. The level of "whisperx" itself is set back,
    # and a handler of its own added, when it is imported, which is after `quiet_libraries`.
    "whisperx.alignment": logging.ERROR,
    "whisperx.asr": logging.ERROR,
    "whisperx.diarize": logging.ERROR,
    "whisperx.vads": logging.ERROR,
}


class CurrentJob:
    """The job that the process runs; all its threads see it."""

    job_id: str | None = None


current_job = CurrentJob()


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        facts: dict[str, Any] = getattr(record, "facts", {})
        line = {
            "requestId": current_job.job_id,
            "message": f"{record.name} | {record.getMessage()}",
            "level": _LEVELS.get(record.levelname, record.levelname),
            **facts,
        }
        return json.dumps(line, allow_nan=False, default=str)


def configure_logging() -> None:
    """Have the root logger write the worker's lines; the SDK, imported later, adds none of its own.

    Libraries that log URLs or transcript text are limited to warnings or errors.
    """
    os.environ.setdefault("RUNPOD_LOG_LEVEL", "INFO")  # the SDK's default prints every input
    handler = logging.StreamHandler()
    on_runpod = bool(os.environ.get("RUNPOD_ENDPOINT_ID"))
    handler.setFormatter(JsonLines() if on_runpod else logging.Formatter(_TERMINAL))
    handler.addFilter(ScrubFilter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    quiet_libraries()


def log_uncaught_errors() -> None:
    """Write them as scrubbed lines; Python's own tracebacks show the URLs in their messages."""

    def log(*error: Any) -> None:
        logging.getLogger("worker").critical("uncaught error", exc_info=error)

    sys.excepthook = log
    threading.excepthook = lambda ended: log(*ended[:3])


def quiet_libraries() -> None:
    """Raise the levels of loggers that no import sets again."""
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)
    warnings.filterwarnings("ignore", message=r"\s*torchcodec is not installed")


logger = logging.getLogger("worker.job")


@dataclass
class JobLog:
    """Collects the facts of one job's log line.

    Attributes:
        job_id: RunPod's; None for a run without a queue that gives none.
        audio_s: Length of what was transcribed; None if that is not known.
        stages: Seconds by stage; some of them overlap.
        warnings: Of the contract.
        models_s: Seconds that the job waited for the models.
    """

    job_id: str | None
    audio_s: float | None = None
    stages: Mapping[Stage, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    models_s: float = 0.0

    def __post_init__(self) -> None:
        current_job.job_id = self.job_id
        self._started = time.perf_counter()
        memory.reset_peaks()

    def close(self, output: Mapping[str, Any]) -> None:
        """Write the line about what the queue gets."""
        facts = self.facts(output)
        level = logging.WARNING if facts["error"] else logging.INFO
        logger.log(level, "%s", said(facts), extra={"facts": facts})
        current_job.job_id = None

    def facts(self, output: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the line says, by name.

        Args:
            output: What the queue gets: ``status``, ``failure`` or ``error`` tell how it ended.
        """
        seconds = time.perf_counter() - self._started
        failure = json.loads(output["error"]) if "error" in output else output.get("failure")
        work_s, audio_s = seconds - self.models_s, self.audio_s
        return {
            "job": self.job_id,
            "status": "failed" if "error" in output else output.get("status", "ok"),
            "error": None if failure is None else str(failure["code"]),
            "audio_seconds": None if audio_s is None else round(audio_s, 1),
            "seconds": round(seconds, 2),
            "real_time_factor": round(work_s / audio_s, 4) if audio_s else None,
            "models_seconds": round(self.models_s, 2),
            "stages": {str(stage): round(spent, 2) for stage, spent in self.stages.items()},
            **memory.peaks_mb(),
            "warnings": list(self.warnings),
            "fresh_worker": bool(output.get("refresh_worker")),
        }


def said(facts: Mapping[str, Any]) -> str:
    """Return the line for people."""
    ending, took = facts["status"], f"{facts['seconds']} s"
    if facts["error"]:
        ending += f" {facts['error']}"
    if facts["audio_seconds"] is not None:
        took = f"{facts['audio_seconds']} s of audio in {took}"
    if facts["real_time_factor"] is not None:
        took += f" ({facts['real_time_factor']} of real time)"
    waited_s = facts["models_seconds"]
    parts = [
        f"job {facts['job'] or '-'} {ending}: {took}",
        f"waited {waited_s} s for the models" if waited_s else "",
        ", ".join(f"{stage} {spent}" for stage, spent in facts["stages"].items()),
        ", ".join(f"{name} {value}" for name, value in facts.items() if name.endswith("_mb")),
        f"warnings: {', '.join(facts['warnings'])}" if facts["warnings"] else "",
        "asks for a fresh worker" if facts["fresh_worker"] else "",
    ]
    return "; ".join(part for part in parts if part)

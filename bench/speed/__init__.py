"""How fast: ours next to stock WhisperX, and next to what the bare models cost.

``python -m bench.speed`` measures the `PARTS`, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

Measure = Callable[..., dict[str, Any]]


def _part(module: str, function: str) -> Callable[[], Measure]:
    """Name a part's function; its module is imported when it runs."""

    def load() -> Measure:
        measure: Measure = getattr(import_module(f"bench.{module}"), function)
        return measure

    return load


QUICK = "quick"
"""The telephone sample alone: for work on the engine, not for the page."""
PARTS: dict[str, Callable[[], Measure]] = {
    "threads": _part("speed.threads", "measure_threads"),
    "english": _part("speed.whole_job", "measure_english"),
    "german": _part("speed.whole_job", "measure_german"),
    "floor": _part("speed.floor", "measure_floor"),
    "stages": _part("speed.stages", "measure_stages"),
    "memory": _part("speed.whole_job", "measure_memory"),
    "cold_start": _part("cold_start", "measure_cold_start"),
    "throttled": _part("speed.throttled", "measure_throttled"),
    QUICK: _part("speed.whole_job", "measure_quick"),
    "overhead": _part("speed.overhead", "measure_overhead"),
}

"""What many runs come to: medians, ratios of pairs, spread.

Pure: takes seconds by run; returns frozen figures that JSON can hold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """One thing measured several times.

    Attributes:
        median: Of all runs.
        low: The smallest.
        high: The largest.
        runs: How many there were.
    """

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """Sum up at least one value."""
        return cls(
            median=round(median(values), 4),
            low=round(min(values), 4),
            high=round(max(values), 4),
            runs=len(values),
        )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Divide pair by pair, as they ran side by side: what slows both cancels out."""
    return Figure.of([our / their for our, their in zip(ours, theirs, strict=True)])


def by_stage(runs: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Turn one mapping a run into one list a stage; a stage that a run lacks took no time."""
    stages = dict.fromkeys(stage for run in runs for stage in run)
    return {stage: [run.get(stage, 0.0) for run in runs] for stage in stages}


def efficiency(floor_s: float, wall_s: float) -> float:
    """Say which part of the wall time the bare model forwards need."""
    return round(floor_s / wall_s, 4)

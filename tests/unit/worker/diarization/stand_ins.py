"""Random recordings of numbers: scores and activity without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pyannote.core import SlidingWindow, SlidingWindowFeature

from worker.engines.diarization.activity import Activity, ActivityRecorder
from worker.engines.segmentation import FrameGrid, WindowGrid

FRAME = SlidingWindow(duration=0.0619375, step=0.016875)
"""The receptive field of every PyanNet."""


@dataclass(frozen=True)
class StandIn:
    """Has what a `Segmenter` has, beside a model."""

    grid: WindowGrid = WindowGrid(5.0, 0.5)
    frames: FrameGrid = FrameGrid(FRAME.duration, FRAME.step)
    is_powerset: bool = False

    @property
    def windows(self) -> SlidingWindow:
        """The windows as pyannote describes them."""
        return SlidingWindow(start=0.0, duration=self.grid.duration_s, step=self.grid.step_s)

    def feature(self, scores: npt.NDArray[np.generic]) -> SlidingWindowFeature:
        """Scores as pyannote hands them on; a copy, because it writes into them."""
        return SlidingWindowFeature(scores.copy(), self.windows)


def smooth_scores(
    seed: int, n_windows: int, n_frames: int = 293, n_speakers: int = 3, steps: int = 40
) -> npt.NDArray[np.float32]:
    """Draw scores that go up and down as speech does, in [0, 1], (windows, frames, speakers)."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(0, 1.5, (n_windows, n_frames // steps + 2, n_speakers))
    fine = np.repeat(knots, steps, axis=1)[:, :n_frames]
    noisy = fine + rng.normal(0, 0.3, fine.shape)
    scores: npt.NDArray[np.float32] = (1 / (1 + np.exp(-noisy))).astype(np.float32)
    return scores


def activity_of(scores: npt.NDArray[np.float32], stand_in: StandIn, threshold: float) -> Activity:
    """Record scores in three parts."""
    recorder = ActivityRecorder(stand_in, threshold)  # type: ignore[arg-type]
    for part in np.array_split(scores, 3):
        if len(part):
            recorder.add(part)
    return recorder.activity()

"""Frames: the clock that all windows of a recording share, and sums over it.

`pyannote.audio.Inference.aggregate` adds windows into float32 sums in order; here the same sums
are made in the same order, but of as many windows as there are so far, so that frames can be
used as soon as no later window reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.diarization.windows import WindowGrid

Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrameGrid:
    """Frames of one length at one distance, the first at 0 s.

    Attributes:
        duration_s: Length of a frame: the model's receptive field.
        step_s: From one frame to the next.
    """

    duration_s: float
    step_s: float

    def closest(self, times_s: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Find the frames whose middles are closest to the times."""
        offsets = np.asarray(times_s, np.float64) - 0.5 * self.duration_s
        return np.rint(offsets / self.step_s).astype(np.int64)

    def middle_s(self, frame: int) -> float:
        """Tell the time of a frame; summed as pyannote's `Segment.middle` sums it."""
        start = frame * self.step_s
        return 0.5 * (start + (start + self.duration_s))

    def first_of(self, windows: npt.ArrayLike, grid: WindowGrid) -> npt.NDArray[np.int64]:
        """Find the frames that windows start at."""
        starts_s = np.asarray(windows, np.int64) * grid.step_s
        return self.closest(starts_s + 0.5 * self.duration_s)

    def count(self, n_windows: int, grid: WindowGrid) -> int:
        """Count the frames that windows cover, from the first one's start."""
        end_s = grid.duration_s + (n_windows - 1) * grid.step_s + 0.5 * self.duration_s
        return int(self.closest(end_s)) + 1

    def before(self, time_s: float) -> int:
        """Count the frames that start no later than a time."""
        return int(np.floor(time_s / self.step_s)) + 1


class OverlapMean:
    """A weighted mean over overlapping windows, given out as soon as it is final.

    Args:
        grid: The windows.
        frames: The frames.
        weights: (n_frames,), of a window's frames.
    """

    def __init__(self, grid: WindowGrid, frames: FrameGrid, weights: Float64s) -> None:
        self._grid = grid
        self._frames = frames
        self._weights = weights
        self._windows = 0
        self._given = 0
        self._sums = np.zeros(0, np.float32)
        self._shares = np.zeros(0, np.float32)

    def add(self, scores: Float32s) -> Float32s:
        """Take the next windows; return the frames that no later window reaches.

        Args:
            scores: (n_windows, n_frames).
        """
        n_windows, n_frames = scores.shape
        first = self._frames.first_of(np.arange(n_windows + 1) + self._windows, self._grid)
        self._grow(int(first[n_windows - 1]) - self._given + n_frames)
        for score, start in zip(scores, first - self._given, strict=False):
            # float64 into float32, as upstream: the sums are rounded after each window
            self._sums[start : start + n_frames] += score * self._weights
            self._shares[start : start + n_frames] += self._weights
        self._windows += n_windows
        return self._give(int(first[n_windows]))

    def end(self, n_frames: int) -> Float32s:
        """Return the frames that are left, up to a total of ``n_frames``."""
        self._grow(n_frames - self._given)
        return self._give(n_frames)

    def _grow(self, length: int) -> None:
        more = np.zeros(max(0, length - len(self._sums)), np.float32)
        self._sums = np.concatenate([self._sums, more])
        self._shares = np.concatenate([self._shares, more])

    def _give(self, until: int) -> Float32s:
        ready = max(0, until - self._given)
        shares: Float32s = np.maximum(self._shares[:ready], np.float32(1e-12))
        means: Float32s = self._sums[:ready] / shares
        self._sums, self._shares = self._sums[ready:], self._shares[ready:]
        self._given += len(means)
        return means

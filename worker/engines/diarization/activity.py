"""Activity: scores batch by batch in, who is active in which frame of which window out.

It keeps what later steps need and no more, of local speakers that are active: a powerset model's
scores are 0 or 1 and kept as bytes; those of other models stay float32, because speakers are ranked
by them when turns are made, and their masks are made anew for the windows that are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.engines.segmentation import FrameGrid, Scores, Segmenter, WindowGrid

Masks = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
KeptScores = npt.NDArray[np.float32] | npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Activity:
    """Local activity of a whole recording.

    Attributes:
        grid: The windows.
        frames: The frames.
        scores: (1 + n_active, n_frames), float32, or uint8 of a powerset model: of silence, then of
            the active local speakers in order of windows.
        index: (n_windows, n_speakers), the row of each; 0 of those who are never active.
        threshold: Above it a score means active; None where scores say it themselves.
        active_frames: (n_windows, n_speakers), frames in which a speaker is active.
        clean_frames: The same, of frames in which nobody else is.
    """

    grid: WindowGrid
    frames: FrameGrid
    scores: KeptScores
    index: Counts
    threshold: float | None
    active_frames: Counts
    clean_frames: Counts

    def masks(self, windows: npt.ArrayLike) -> Masks:
        """Tell who is active in some windows: (n, n_frames, n_speakers)."""
        scores = self.scores[self.index[np.asarray(windows)]]
        return _masks(scores.transpose(0, 2, 1), self.threshold)

    def speakers_per_frame(self, block: int = 1024) -> npt.NDArray[np.uint8]:
        """Count how many speak at once, the rounded mean over windows: (n_frames_in_all,)."""
        n_windows, n_frames = len(self.index), self.scores.shape[1]
        length = self.frames.count(n_windows, self.grid)
        speaking = np.zeros(length, np.uint16)
        windows = np.zeros(length, np.uint16)
        for first in range(0, n_windows, block):
            which = np.arange(first, min(first + block, n_windows))
            counts = self.masks(which).sum(axis=2, dtype=np.uint16)
            for start, count in zip(self.frames.first_of(which, self.grid), counts, strict=True):
                speaking[start : start + n_frames] += count
                windows[start : start + n_frames] += 1
        mean = speaking.astype(np.float32) / np.maximum(windows.astype(np.float32), 1e-12)
        return np.rint(mean).astype(np.uint8)


class ActivityRecorder:
    """Gathers an `Activity` while segmentation goes on.

    Args:
        segmenter: What the scores come from.
        threshold: The pipeline's; None for a powerset model.
    """

    def __init__(self, segmenter: Segmenter, threshold: float | None) -> None:
        self._segmenter, self._threshold = segmenter, threshold
        self._scores: list[npt.NDArray[Any]] = []
        self._active: list[Counts] = []
        self._clean: list[Counts] = []

    def add(self, scores: Scores) -> None:
        """Take the scores of the next windows, (n_windows, n_frames, n_speakers)."""
        masks = _masks(scores, self._threshold)
        alone = masks.sum(axis=2, keepdims=True) == 1
        kind = np.uint8 if self._threshold is None else np.float32
        if not self._scores:
            self._scores.append(np.zeros((1, scores.shape[1]), kind))
        self._scores.append(scores.transpose(0, 2, 1)[masks.any(axis=1)].astype(kind))
        self._active.append(masks.sum(axis=1))
        self._clean.append((masks & alone).sum(axis=1))

    def activity(self) -> Activity:
        """Return what was gathered, of one window at least."""
        active_frames = np.concatenate(self._active)
        is_active = active_frames > 0
        return Activity(
            grid=self._segmenter.grid,
            frames=self._segmenter.frames,
            scores=np.concatenate(self._scores),
            index=np.where(is_active, is_active.cumsum().reshape(is_active.shape), 0),
            threshold=self._threshold,
            active_frames=active_frames,
            clean_frames=np.concatenate(self._clean),
        )


def _masks(scores: KeptScores, threshold: float | None) -> Masks:
    """Binarize as pyannote's `binarize` does with one threshold, off at first.

    A score that equals the threshold changes nothing: the frame is as the one before it.
    """
    if threshold is None:
        return scores.astype(np.bool_)
    active: Masks = scores > np.float32(threshold)
    undecided = scores == np.float32(threshold)
    if undecided.any():
        for frame in range(scores.shape[1]):
            before = active[:, frame - 1] if frame else False
            active[:, frame] |= undecided[:, frame] & before
    return active

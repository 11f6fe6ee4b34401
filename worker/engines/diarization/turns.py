"""Turns: local activity and global speakers in, speaker turns out.

As upstream's `reconstruct`, `to_diarization` and `to_annotation`, but a block of frames at a time:
each global speaker's scores are summed over windows, and in each frame the loudest ones win, as
many as speak at once. Each window is added as it is into float32 sums, which is exact: rounding a
float64 sum of two float32 numbers, as upstream does, gives their float32 sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from pyannote.core import Annotation, Segment

from worker.engines.diarization.activity import Activity
from worker.engines.diarization.clustering import SILENT
from worker.engines.segmentation import FrameGrid
from worker.types import SpeakerTurn

Labels = npt.NDArray[np.int64]
BLOCK_FRAMES = 1 << 16


def speaker_turns(
    activity: Activity,
    labels: Labels,
    speaking: npt.NDArray[np.uint8],
    min_pause_s: float,
) -> tuple[tuple[SpeakerTurn, ...], tuple[SpeakerTurn, ...]]:
    """Return the turns, and those in which one speaks at a time: the loudest of a frame.

    Args:
        activity: Local activity.
        labels: (n_windows, n_speakers), from `cluster`.
        speaking: (n_frames_in_all,), how many speak at once.
        min_pause_s: Shorter pauses of one speaker are closed.

    Returns:
        Both ordered by start, end and speaker, with the same names of speakers.
    """
    n_speakers = max(0, int(labels.max()) + 1)
    ways = [_Winners(counts, n_speakers) for counts in (speaking, np.minimum(speaking, 1))]
    for start, sums in _summed_scores(activity, labels, n_speakers, len(speaking)):
        for way in ways:
            way.add(start, sums)
    spoken, alone = (way.intervals(activity.frames, min_pause_s) for way in ways)
    # upstream sorts labels as text, and numbers the speakers in that order
    names = {speaker: f"SPEAKER_{i:02d}" for i, speaker in enumerate(sorted(spoken, key=str))}
    return _named(spoken, names), _named(alone, names)


class _Winners:
    """Who speaks from when to when, of frames that come block by block.

    Args:
        speaking: (n_frames_in_all,), how many speak at once.
        n_speakers: Whose sums come.
    """

    def __init__(self, speaking: npt.NDArray[np.uint8], n_speakers: int) -> None:
        self._speaking = speaking
        self._most = int(speaking.max())
        self._missing = max(0, self._most - n_speakers)
        self._changes: list[list[int]] = [[] for _ in range(n_speakers + self._missing)]

    def add(self, start: int, sums: npt.NDArray[np.float32]) -> None:
        """Choose in each of the next frames the speakers with the largest sums."""
        padded = np.pad(sums, ((0, 0), (0, self._missing)))
        ranked = np.argsort(-padded, axis=-1)  # numpy's own order of equals: upstream's too
        winners = np.zeros(padded.shape, np.bool_)
        for rank in range(self._most):
            (rows,) = np.nonzero(self._speaking[start : start + len(sums)] > rank)
            winners[rows, ranked[rows, rank]] = True
        for changes, active in zip(self._changes, winners.T, strict=True):
            is_active = len(changes) % 2 == 1
            changes += (start + np.flatnonzero(np.diff(active, prepend=is_active))).tolist()

    def intervals(
        self, frames: FrameGrid, min_pause_s: float
    ) -> dict[int, list[tuple[float, float]]]:
        """Return (start, end) in seconds, from middle to middle, of all who speak."""
        found = {
            speaker: _intervals(changes, len(self._speaking), frames, min_pause_s)
            for speaker, changes in enumerate(self._changes)
        }
        return {speaker: intervals for speaker, intervals in found.items() if intervals}


def _named(
    spoken: dict[int, list[tuple[float, float]]], names: dict[int, str]
) -> tuple[SpeakerTurn, ...]:
    turns = [
        SpeakerTurn(start, end, names[speaker])
        for speaker, intervals in spoken.items()
        for start, end in intervals
    ]
    return tuple(sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker)))


def _summed_scores(
    activity: Activity, labels: Labels, n_speakers: int, n_frames_in_all: int
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Sum each global speaker's scores over windows.

    Yields:
        The first frame of a block and its sums, (n, n_speakers).
    """
    n_windows, n_frames = len(labels), activity.scores.shape[1]
    firsts = activity.frames.first_of(np.arange(n_windows), activity.grid)
    for start in range(0, n_frames_in_all, BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, n_frames_in_all)
        sums = np.zeros((stop - start, n_speakers), np.float32)
        for window in range(*np.searchsorted(firsts, (start - n_frames + 1, stop)).tolist()):
            first, local = int(firsts[window]), labels[window]
            part = sums[max(0, first - start) : first + n_frames - start]
            here = slice(max(0, start - first), max(0, start - first) + len(part))
            for speaker in {*local.tolist()} - {SILENT}:
                rows = activity.index[window, local == speaker]
                part[:, speaker] += activity.scores[rows, here].max(axis=0)
        yield start, sums


def _intervals(
    changes: list[int], n_frames_in_all: int, frames: FrameGrid, min_pause_s: float
) -> list[tuple[float, float]]:
    """Turn the frames at which a speaker begins or ends into intervals in seconds."""
    last = [n_frames_in_all - 1] if len(changes) % 2 else []
    edges = [frames.middle_s(frame) for frame in (*changes, *last)]
    found = [Segment(*edge) for edge in list(pairwise(edges))[::2]]
    if min_pause_s > 0:
        annotation = Annotation()
        for segment in found:
            annotation[segment] = 0
        found = list(annotation.support(min_pause_s).itersegments())
    return [(segment.start, segment.end) for segment in found if segment]

"""Turns: local activity and global speakers in, speaker turns out.

As upstream's `reconstruct`, `to_diarization` and `to_annotation`: each global speaker's scores are
summed over windows, and in each frame the loudest ones win, as many as speak at once. Each window
is added as it is into float32 sums, which is exact: rounding a float64 sum of two float32 numbers,
as upstream does, gives their float32 sum.
"""

from __future__ import annotations

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
    sums = summed_scores(activity, labels, len(speaking))
    spoken, alone = (
        _spoken(loudest(sums, at_once), activity.frames, min_pause_s)
        for at_once in (speaking, np.minimum(speaking, 1))
    )
    # upstream sorts labels as text, and numbers the speakers in that order
    names = {speaker: f"SPEAKER_{i:02d}" for i, speaker in enumerate(sorted(spoken, key=str))}
    return _named(spoken, names), _named(alone, names)


def _spoken(
    winners: npt.NDArray[np.bool_], frames: FrameGrid, min_pause_s: float
) -> dict[int, list[tuple[float, float]]]:
    return {
        speaker: intervals
        for speaker in range(winners.shape[1])
        if (intervals := _intervals(winners[:, speaker], frames, min_pause_s))
    }


def _named(
    spoken: dict[int, list[tuple[float, float]]], names: dict[int, str]
) -> tuple[SpeakerTurn, ...]:
    turns = [
        SpeakerTurn(start, end, names[speaker])
        for speaker, intervals in spoken.items()
        for start, end in intervals
    ]
    return tuple(sorted(turns, key=lambda turn: (turn.start, turn.end, turn.speaker)))


def summed_scores(
    activity: Activity, labels: Labels, n_frames_in_all: int
) -> npt.NDArray[np.float32]:
    """Sum each global speaker's scores over windows: (n_frames_in_all, n_global_speakers)."""
    n_windows, n_frames, _ = activity.scores.shape
    sums = np.zeros((n_frames_in_all, max(0, int(labels.max()) + 1)), np.float32)
    firsts = activity.frames.first_of(np.arange(n_windows), activity.grid)
    for scores, local, first in zip(activity.scores, labels, firsts, strict=True):
        part = sums[first : first + n_frames]
        for speaker in {*local.tolist()} - {SILENT}:
            part[:, speaker] += scores[:, local == speaker].max(axis=1)
    return sums


def loudest(
    sums: npt.NDArray[np.float32], speaking: npt.NDArray[np.uint8]
) -> npt.NDArray[np.bool_]:
    """Choose in each frame as many speakers as speak, those with the largest sums first."""
    n_frames, n_speakers = sums.shape
    most = int(speaking.max())
    missing = max(0, most - n_speakers)
    winners = np.zeros((n_frames, n_speakers + missing), np.bool_)
    for start in range(0, n_frames, BLOCK_FRAMES):
        block = slice(start, start + BLOCK_FRAMES)
        padded = np.pad(sums[block], ((0, 0), (0, missing)))
        ranked = np.argsort(-padded, axis=-1)  # numpy's own order of equals: upstream's too
        for rank in range(most):
            (rows,) = np.nonzero(speaking[block] > rank)
            winners[start + rows, ranked[rows, rank]] = True
    return winners


def _intervals(
    active: npt.NDArray[np.bool_], frames: FrameGrid, min_pause_s: float
) -> list[tuple[float, float]]:
    """Turn active frames into (start, end) in seconds, from middle to middle."""
    changes = np.flatnonzero(np.diff(active, prepend=False)).tolist()
    if len(changes) % 2:
        changes.append(len(active) - 1)
    edges = [frames.middle_s(frame) for frame in changes]
    found = [Segment(*edge) for edge in list(pairwise(edges))[::2]]
    if min_pause_s > 0:
        annotation = Annotation()
        for segment in found:
            annotation[segment] = 0
        found = list(annotation.support(min_pause_s).itersegments())
    return [(segment.start, segment.end) for segment in found if segment]

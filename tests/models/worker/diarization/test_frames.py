"""Sums over windows are `Inference.aggregate`'s to the last bit, and come as early as they can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyannote.audio import Inference

from tests.unit.worker.diarization.stand_ins import FRAME, StandIn, smooth_scores
from worker.engines.segmentation import OverlapMean, WindowGrid

pytestmark = pytest.mark.models

GRIDS = [WindowGrid(5.0, 0.5), WindowGrid(10.0, 1.0)]


@settings(deadline=None, max_examples=40)
@given(
    grid=st.sampled_from(GRIDS),
    n_windows=st.integers(1, 60),
    batch=st.integers(1, 40),
    seed=st.integers(0, 9),
)
def test_mean_is_upstreams(grid: WindowGrid, n_windows: int, batch: int, seed: int) -> None:
    n_frames = 293 if grid.duration_s == 5 else 589
    scores = smooth_scores(seed, n_windows, n_frames, 1)
    stand_in = StandIn(grid)
    feature = stand_in.feature(scores)
    expected = Inference.aggregate(feature, FRAME, hamming=True, missing=0.0).data[:, 0]
    mean = OverlapMean(grid, stand_in.frames, np.hamming(n_frames))
    found = [mean.add(scores[i : i + batch, :, 0]) for i in range(0, n_windows, batch)]
    found.append(mean.end(stand_in.frames.count(n_windows, grid)))
    together = np.concatenate(found)
    assert together.dtype == expected.dtype
    np.testing.assert_array_equal(together, expected)


def test_a_frame_is_given_once_no_later_window_reaches_it() -> None:
    stand_in = StandIn()
    mean = OverlapMean(stand_in.grid, stand_in.frames, np.ones(293))
    given_out = sum(len(mean.add(np.ones((1, 293), np.float32))) for _ in range(20))
    assert given_out == stand_in.frames.first_of(20, stand_in.grid)


def test_middles_are_pyannotes() -> None:
    frames = StandIn().frames
    assert [frames.middle_s(i) for i in range(5000)] == [FRAME[i].middle for i in range(5000)]

"""Windows lie where `Inference.slide` lays them; sums over them are `Inference.aggregate`'s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyannote.audio import Inference

from tests.fakes.diarization import FRAME, StandIn, smooth_scores
from worker.engines.segmentation import OverlapMean, SegmentationStream, WindowGrid

SMALL = WindowGrid(10 / 16_000, 4 / 16_000)


def slid(samples: torch.Tensor, size: int, hop: int) -> list[list[int]]:
    """Cut windows as `pyannote.audio.Inference.slide` does."""
    complete = samples.unfold(0, size, hop) if len(samples) >= size else samples.new_zeros(0, size)
    rest = samples[len(complete) * hop :]
    if len(samples) < size or (len(samples) - size) % hop > 0:
        last = torch.nn.functional.pad(rest, (0, size - len(rest)))
        complete = torch.cat([complete, last[None]])
    return complete.tolist()


def test_samples_are_scaled_as_whisperx_scales_them() -> None:
    samples = np.array([-32768, -1, 0, 12345, 32767], np.int16)
    cut = WindowGrid(5 / 16_000, 5 / 16_000).cut(samples, [0], torch.device("cpu"))
    assert cut.dtype is torch.float32
    expected = samples.astype(np.float32) / np.float32(32768)
    np.testing.assert_array_equal(cut[0, 0].numpy(), expected)


def test_a_step_of_no_whole_samples_is_refused() -> None:
    with pytest.raises(ValueError, match="whole samples"):
        WindowGrid(5.0, 1 / 3)


class Copying(StandIn):
    """Gives the windows themselves as scores."""

    def score(self, samples: Any, windows: Any) -> Any:
        """Give windows."""
        return (self.grid.cut(samples, windows, torch.device("cpu")) * 32768).numpy()


@settings(max_examples=200)
@given(
    n_samples=st.integers(1, 120),
    batch_size=st.integers(1, 5),
    cuts=st.lists(st.integers(0, 120), max_size=5),
)
@example(n_samples=10, batch_size=2, cuts=[])
@example(n_samples=15, batch_size=2, cuts=[])
@example(n_samples=22, batch_size=2, cuts=[14])
def test_windows_of_samples_that_arrive_in_parts_are_those_of_slide(
    n_samples: int, batch_size: int, cuts: list[int]
) -> None:
    segmenter: Any = Copying(grid=SMALL)
    samples = np.arange(1, n_samples + 1, dtype=np.int16)
    stream = SegmentationStream(segmenter, batch_size)
    parts = np.split(samples, sorted(min(cut, n_samples) for cut in cuts))
    found = [batch() for batch in stream.over(parts)]
    expected = slid(torch.from_numpy(samples), 10, 4)
    assert np.concatenate(found)[:, 0].tolist() == expected
    complete = SMALL.complete(n_samples)
    sizes = [batch_size] * (complete // batch_size) + [complete % batch_size or None]
    sizes.append(1 if SMALL.has_orphan(n_samples) else None)
    assert [len(part) for part in found] == [size for size in sizes if size]


@settings(deadline=None, max_examples=40)
@given(
    grid=st.sampled_from([WindowGrid(5.0, 0.5), WindowGrid(10.0, 1.0)]),
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


def test_middles_are_pyannotes() -> None:
    frames = StandIn().frames
    assert [frames.middle_s(i) for i in range(5000)] == [FRAME[i].middle for i in range(5000)]

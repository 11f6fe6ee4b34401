"""Segmentation: who of up to three local speakers is active in each frame of each window.

Takes int16 samples, all at once or as they arrive; gives scores in batches. Windows, their order
and the odd last one are those of `pyannote.audio.Inference.slide`. The size of a batch moves
scores by up to 2e-8 (measured): the matrix products inside the LSTM are split differently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pyannote.audio import Inference

from worker.diarization.frames import FrameGrid
from worker.diarization.windows import WindowGrid
from worker.values import Samples

Scores = npt.NDArray[np.float32]


class Segmenter:
    """A segmentation model and the windows that it wants.

    Args:
        inference: pyannote's, as a loaded pipeline has it.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        field = inference.model.receptive_field
        self.grid = WindowGrid(inference.duration, inference.step)
        self.frames = FrameGrid(field.duration, field.step)
        self.is_powerset = bool(inference.model.specifications.powerset)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self._inference.device
        return device

    def run(
        self, samples: Samples, batch_size: int, before_batch: Callable[[float], None]
    ) -> Iterator[Scores]:
        """Give the scores of all windows, (n_windows, n_frames, n_speakers) a batch.

        Args:
            samples: The waveform, (n_samples,).
            batch_size: Windows at once.
            before_batch: Given the share of windows done, in [0, 1]; may raise to stop.
        """
        stream = SegmentationStream(self, batch_size)
        total = self.grid.count(len(samples))
        done = 0
        for batch in (*stream.batches(samples), *stream.last_batches()):
            before_batch(done / total)
            yield batch()
            done += batch.n_windows
        before_batch(1.0)

    def score(self, samples: Samples, windows: npt.ArrayLike) -> Scores:
        """Run the model on some windows of a waveform."""
        scores: Scores = self._inference.infer(self.grid.cut(samples, windows, self.device))
        return scores


class _Batch:
    def __init__(self, segmenter: Segmenter, samples: Samples, first: int, n: int) -> None:
        self._segmenter, self._samples, self._first, self.n_windows = segmenter, samples, first, n

    def __call__(self) -> Scores:
        windows = np.arange(self._first, self._first + self.n_windows)
        return self._segmenter.score(self._samples, windows)


class SegmentationStream:
    """The same windows while samples still arrive.

    A batch waits until it is full, so that it holds the windows that it would hold if all
    samples had been there; the last ones come from `last_batches`.

    Args:
        segmenter: The model.
        batch_size: Windows at once.
    """

    def __init__(self, segmenter: Segmenter, batch_size: int) -> None:
        self._segmenter = segmenter
        self._batch_size = batch_size
        self._pending: Samples = np.zeros(0, np.int16)
        self._has_begun = False

    def batches(self, samples: Samples) -> list[_Batch]:
        """Take more samples, (n,); return the batches that are full, each to be called."""
        self._pending = np.concatenate([self._pending, samples]) if self._pending.size else samples
        grid, size = self._segmenter.grid, self._batch_size
        full = grid.complete(len(self._pending)) // size
        found = [_Batch(self._segmenter, self._pending, i * size, size) for i in range(full)]
        self._pending = self._pending[full * size * grid.hop :]
        self._has_begun |= full > 0
        return found

    def last_batches(self) -> list[_Batch]:
        """Return what is left: complete windows, then the one that is filled up."""
        grid, left = self._segmenter.grid, self._pending
        complete = grid.complete(len(left))
        found = [_Batch(self._segmenter, left, 0, complete)] if complete else []
        if self._has_orphan(len(left)):
            found.append(_Batch(self._segmenter, left, complete, 1))
        return found

    def _has_orphan(self, n_left: int) -> bool:
        """After a full batch, what it shares with the next window is no window of its own."""
        grid = self._segmenter.grid
        if self._has_begun and n_left < grid.size:
            return n_left > grid.size - grid.hop
        return grid.has_orphan(n_left)


def same_segmentation(one: Inference, other: Inference) -> bool:
    """Whether two segmentations give the same scores: weights, architecture, windows."""
    return (
        one is other
        or (one.duration, one.step) == (other.duration, other.step)
        and type(one.model) is type(other.model)
        and dict(one.model.hparams) == dict(other.model.hparams)
        and one.model.specifications == other.model.specifications
        and _same_weights(one.model.state_dict(), other.model.state_dict())
    )


def _same_weights(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype and torch.equal(tensor, other[name].to(tensor.device))
        for name, tensor in one.items()
    )

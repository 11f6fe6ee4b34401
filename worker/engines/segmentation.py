"""Segmentation: int16 samples in, scores of up to three local speakers in each frame out.

Windows, their order and the odd last one are those of `pyannote.audio.Inference.slide`, the sums
over them those of `Inference.aggregate`; samples may come in parts, and frames are given out as
soon as no later window reaches them. The one module that knows pyannote's private attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from pyannote.audio import Inference

from worker.types import SAMPLE_RATE_HZ, SampleFile, Samples

if TYPE_CHECKING:
    from pyannote.audio.pipelines import SpeakerDiarization, VoiceActivityDetection

Scores = npt.NDArray[np.float32]
Frames = npt.NDArray[np.int64]
Weights = npt.NDArray[np.float64]
WINDOWS_ON_CPU = 8
"""What few windows leave behind in the first layers (2.6 MB each in the segmentation network, 10 MB
in ResNet34) stays in a CPU's caches: 18 ms a window in fours, 20 in eights, 23 in thirty-twos."""


def windows_at_once(device: torch.device, batch_size: int) -> int:
    """Tell how many windows go through a model together, at most ``batch_size``.

    Their number moves scores by up to 2e-8 (measured): an LSTM splits its products otherwise.
    """
    return min(batch_size, WINDOWS_ON_CPU) if device.type == "cpu" else batch_size


def segmentation_of(pipeline: VoiceActivityDetection | SpeakerDiarization) -> Inference:
    """Return a pipeline's segmentation."""
    # upstream: pyannote.audio 4.0.7, no issue known; can go when it has a public name
    return pipeline._segmentation


def embedding_of(pipeline: SpeakerDiarization) -> Any:
    """Return a diarization's speaker embedding."""
    return pipeline._embedding  # upstream: as above


@dataclass(frozen=True)
class WindowGrid:
    """Windows of one length at one distance.

    Attributes:
        duration_s: Length of a window.
        step_s: From one window's start to the next one's.

    Raises:
        ValueError: The step is no whole number of samples.
    """

    duration_s: float
    step_s: float

    def __post_init__(self) -> None:
        if abs(self.step_s * SAMPLE_RATE_HZ - self.hop) > 1e-6:
            raise ValueError(f"windows cannot start every {self.step_s} s: no whole samples")

    @property
    def size(self) -> int:
        """Samples of a window."""
        return round(self.duration_s * SAMPLE_RATE_HZ)

    @property
    def hop(self) -> int:
        """Samples from one window's start to the next one's."""
        return round(self.step_s * SAMPLE_RATE_HZ)

    def complete(self, n_samples: int) -> int:
        """Count the windows that lie inside the waveform."""
        return max(0, (n_samples - self.size) // self.hop + 1)

    def has_orphan(self, n_samples: int) -> bool:
        """Whether samples are left for a last window, filled up with zeros."""
        return n_samples < self.size or (n_samples - self.size) % self.hop > 0

    def count(self, n_samples: int) -> int:
        """Count all windows."""
        return self.complete(n_samples) + self.has_orphan(n_samples)

    def cut(
        self, samples: Samples | SampleFile, windows: npt.ArrayLike, device: torch.device
    ) -> torch.Tensor:
        """Return windows as the models take them.

        Args:
            samples: The waveform, (n_samples,).
            windows: Which ones, (n,).
            device: Gets int16, half the bytes, and scales there.

        Returns:
            (n, 1, size) float32 in [-1, 1).
        """
        batch = np.zeros((np.size(windows), 1, self.size), np.int16)
        for row, window in zip(batch, np.asarray(windows), strict=True):
            part = samples[window * self.hop : window * self.hop + self.size]
            row[0, : len(part)] = part
        on_host = torch.from_numpy(batch)
        if device.type == "cuda":
            on_host = on_host.pin_memory()
        return on_host.to(device, non_blocking=True).to(torch.float32) / 32768


@dataclass(frozen=True)
class FrameGrid:
    """Frames of one length at one distance, the first at 0 s.

    Attributes:
        duration_s: Length of a frame: the model's receptive field.
        step_s: From one frame to the next.
    """

    duration_s: float
    step_s: float

    def closest(self, times_s: npt.ArrayLike) -> Frames:
        """Find the frames whose middles are closest to the times."""
        offsets = np.asarray(times_s, np.float64) - 0.5 * self.duration_s
        return np.rint(offsets / self.step_s).astype(np.int64)

    def middle_s(self, frame: int) -> float:
        """Tell the time of a frame; summed as pyannote's `Segment.middle` sums it."""
        start = frame * self.step_s
        return 0.5 * (start + (start + self.duration_s))

    def first_of(self, windows: npt.ArrayLike, grid: WindowGrid) -> Frames:
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

    def __init__(self, grid: WindowGrid, frames: FrameGrid, weights: Weights) -> None:
        self._grid = grid
        self._frames = frames
        self._weights = weights
        self._windows = 0
        self._given = 0
        self._sums = np.zeros(0, np.float32)
        self._shares = np.zeros(0, np.float32)

    def add(self, scores: Scores) -> Scores:
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

    def end(self, n_frames: int) -> Scores:
        """Return the frames that are left, up to a total of ``n_frames``."""
        self._grow(n_frames - self._given)
        return self._give(n_frames)

    def _grow(self, length: int) -> None:
        more = np.zeros(max(0, length - len(self._sums)), np.float32)
        self._sums = np.concatenate([self._sums, more])
        self._shares = np.concatenate([self._shares, more])

    def _give(self, until: int) -> Scores:
        ready = max(0, until - self._given)
        shares: Scores = np.maximum(self._shares[:ready], np.float32(1e-12))
        means: Scores = self._sums[:ready] / shares
        self._sums, self._shares = self._sums[ready:], self._shares[ready:]
        self._given += len(means)
        return means


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
        self.device: torch.device = inference.device

    def score(self, samples: Samples, windows: npt.ArrayLike) -> Scores:
        """Run the model on some windows, (n,), of a waveform: (n, n_frames, n_speakers)."""
        scores: Scores = self._inference.infer(self.grid.cut(samples, windows, self.device))
        return scores


class SegmentationStream:
    """The same windows while samples still arrive.

    A batch waits until it is full, so that it holds the windows that it would hold if all
    samples had been there.

    Args:
        segmenter: The model.
        batch_size: Windows at once.

    Attributes:
        n_samples: How many there have been.
    """

    def __init__(self, segmenter: Segmenter, batch_size: int) -> None:
        self._segmenter = segmenter
        self._batch_size = batch_size
        self.n_samples = 0
        self._pending: Samples = np.zeros(0, np.int16)
        self._has_begun = False

    def over(self, parts: Iterable[Samples]) -> Iterator[Callable[[], Scores]]:
        """Take consecutive parts of the waveform, (n,) each; give all batches, to be called."""
        for part in parts:
            self.n_samples += len(part)
            yield from self._full_batches(part)
        yield from self._last_batches()

    def _full_batches(self, samples: Samples) -> list[Callable[[], Scores]]:
        self._pending = np.concatenate([self._pending, samples]) if self._pending.size else samples
        grid, size = self._segmenter.grid, self._batch_size
        full = grid.complete(len(self._pending)) // size
        found = [self._batch(i * size, size) for i in range(full)]
        self._pending = self._pending[full * size * grid.hop :]
        self._has_begun |= full > 0
        return found

    def _last_batches(self) -> list[Callable[[], Scores]]:
        """Return what is left: complete windows, then the one that is filled up."""
        n_left = len(self._pending)
        complete = self._segmenter.grid.complete(n_left)
        found = [self._batch(0, complete)] if complete else []
        if self._has_orphan(n_left):
            found.append(self._batch(complete, 1))
        return found

    def _batch(self, first: int, n: int) -> Callable[[], Scores]:
        return partial(self._segmenter.score, self._pending, np.arange(first, first + n))

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

"""Windows over a waveform: where they lie, and their samples.

Takes int16 samples at 16 kHz; gives float32 batches on the model's device. Windows lie as
`pyannote.audio.Inference.slide` lays them: one every ``hop`` samples while they are complete,
then one more, filled up with zeros, if samples are left. No float32 copy of the whole waveform
is ever made: 0.23 GB an hour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from worker.values import SAMPLE_RATE_HZ, Samples


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

    def cut(self, samples: Samples, windows: npt.ArrayLike, device: torch.device) -> torch.Tensor:
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

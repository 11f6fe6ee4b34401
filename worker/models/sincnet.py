"""SincNet's first filters, computed once for windows that overlap.

Each sample of a recording lies in ten windows of pyannote's segmentation, and goes through the 80
filters of 251 samples, a quarter of a window's time on a CPU, ten times. The filters are linear:
what normalising does to a window's samples can be done to what the filters made of them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class SharedFilters(nn.Module):
    """The first filters of a SincNet, for windows as they are.

    Args:
        filters: asteroid's convolution, without padding or bias.
        norm: How a window is normalised for it.
        hop: Samples from one window's start to the next one's.
    """

    def __init__(self, filters: Any, norm: nn.InstanceNorm1d, hop: int) -> None:
        super().__init__()
        self.filters = filters
        self.norm = norm
        self.hop = hop
        self.step: int = hop // filters.stride
        with torch.no_grad():
            self.of_ones: Tensor = filters(torch.ones(1, 1, filters.filterbank.kernel_size))

    def forward(self, windows: Tensor) -> Tensor:
        """Take windows (n, 1, n_samples), return (n, n_filters, n_frames)."""
        first, others = windows[:1], windows[1:]
        if not torch.equal(others[:, :, : -self.hop], windows[:-1, :, self.hop :]):
            filtered: Tensor = self.filters(self.norm(windows))
            return filtered
        joined = torch.cat([first, others[:, :, -self.hop :].reshape(1, 1, -1)], dim=2)
        of_all = self.filters(joined)[0]
        n_frames = of_all.shape[1] - self.step * len(others)
        of_each = of_all.unfold(1, n_frames, self.step).transpose(0, 1)
        variance, mean = torch.var_mean(windows, dim=2, keepdim=True, correction=0)
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        offset = self.norm.bias - mean * scale
        return torch.addcmul(self.of_ones * offset, of_each, scale)


def share_filters(model: nn.Module, hop: int) -> None:
    """Have a model compute its first filters once for consecutive windows that go in together.

    Scores move, but stay as close to float64's as they were. A model without SincNet, or whose
    frames do not fall on those of the next window, stays as it is.

    Args:
        model: A segmentation of pyannote.audio's.
        hop: Samples from one window's start to the next one's.
    """
    # upstream: pyannote.audio 4.0.7, no issue known; can go when it shares them
    sincnet = getattr(model, "sincnet", None)
    if sincnet is None or hop % sincnet.stride:
        return
    sincnet.conv1d[0] = SharedFilters(sincnet.conv1d[0], sincnet.wav_norm1d, hop)
    sincnet.wav_norm1d = nn.Identity()

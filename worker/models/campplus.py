"""CAM++: speaker embeddings of the demo profile's better diarizer, as a `pyannote.audio.Model`.

The checkpoint that `builder` writes names this class by its module. Network and front end follow
3D-Speaker's `campplus` (Apache-2.0), whose weights fit the names here, after Wang et al., "CAM++: A
Fast and Efficient Network for Speaker Verification Using Context-Aware Masking" (arXiv:2303.00332).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from pyannote.audio import Model
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.compliance.kaldi import fbank

from worker.models.ge2e import stretch, under_masks

N_MELS = 80
DIMENSION = 192
SHORTEST = 8_000
"""Samples: so pyannote takes it that with less than 0.5 s of clean speech all of it is better."""
MIN_FRAMES = 20
"""Mel frames of 10 ms: fewer tell nothing of a voice."""
_GROWTH, _BOTTLENECK, _SEGMENT = 32, 128, 100
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers, dilation


class CamPlusPlusEmbedding(Model):  # type: ignore[misc]  # pyannote ships no types
    """A densely connected TDNN over mel frames, whose layers are masked by their context.

    Only frames whose weight is above one half are embedded, joined. Fewer than `MIN_FRAMES` are
    embedded as silence: finite, so that clustering, which compares inactive rows too, never sees
    NaN.

    Args:
        sample_rate: In hertz; the front end is defined for 16000 only.
        num_channels: 1.
        task: pyannote's; unused, since this model is never trained here.
    """

    min_active_share = 0.15
    """0.75 s of a window of 5 s tell a voice (`worker.engines.diarization.clustering`)."""

    def __init__(self, sample_rate: int = 16000, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.head = _Head()
        layers: OrderedDict[str, nn.Module] = OrderedDict(tdnn=_Tdnn(320, 128))
        channels = 128
        for number, (count, dilation) in enumerate(_BLOCKS, 1):
            layers[f"block{number}"] = _Block(channels, count, dilation)
            channels += count * _GROWTH
            layers[f"transit{number}"] = _Transit(channels, channels // 2)
            channels //= 2
        layers["out_nonlinear"] = _norm(channels)
        self.xvector = nn.Sequential(layers)
        self.xvector.add_module("dense", _Dense(2 * channels, DIMENSION))

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return DIMENSION

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed each waveform, or the part of it that its weights keep.

        Args:
            waveforms: (batch, 1, samples), 16 kHz, in [-1, 1]; `SHORTEST` samples or more.
            weights: (batch, frames), or (batch, speakers, frames) for several embeddings of
                each waveform; any frame rate; None keeps everything.

        Returns:
            (batch, 192), or (batch, speakers, 192); non-negative, finite.

        Raises:
            ValueError: A waveform is too short.
        """
        if waveforms.shape[-1] < SHORTEST:
            raise ValueError(f"{waveforms.shape[-1]} samples are too few to embed")
        return under_masks(self._embed_masks, waveforms, weights)

    def _embed_masks(self, waveforms: Tensor, masks: Tensor) -> Tensor:
        """Embed each waveform under each of its masks (batch, speakers, frames), row by row.

        The network's means are over all frames of a row, so rows of other lengths cannot be padded.
        """
        mels = [fbank(one, num_mel_bins=N_MELS, sample_frequency=16000) for one in waveforms]
        kept = [stretch(mask, len(mel)) > 0.5 for mel, mask in zip(mels, masks, strict=True)]
        rows = [mel[keep] for mel, keeps in zip(mels, kept, strict=True) for keep in keeps]
        silence = torch.zeros_like(mels[0])
        vectors = [self._embed(row if len(row) >= MIN_FRAMES else silence) for row in rows]
        return torch.stack(vectors).reshape(*masks.shape[:2], DIMENSION)

    def _embed(self, mel: Tensor) -> Tensor:
        """Embed log mels (n, 80)."""
        centred = (mel - mel.mean(dim=0)).T[None]
        vector: Tensor = self.xvector(self.head(centred))[0]
        return vector


def _norm(channels: int) -> nn.Sequential:
    batchnorm = nn.BatchNorm1d(channels)
    return nn.Sequential(OrderedDict(batchnorm=batchnorm, relu=nn.ReLU(inplace=True)))


class _Residual(nn.Module):
    """Two convolutions over frequency and time, the first of which may halve the frequencies."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(32, 32, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.conv2 = nn.Conv2d(32, 32, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.shortcut = nn.Sequential()
        if stride > 1:
            halved = nn.Conv2d(32, 32, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(halved, nn.BatchNorm2d(32))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class _Head(nn.Module):
    """Mels (n, 80, frames) to 32 channels of 10 bands: (n, 320, frames)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(32)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(32, 32, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(32)

    def forward(self, mel: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(mel[:, None])))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class _Tdnn(nn.Module):
    """Halves the frames."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(before, after, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _norm(after)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))  # type: ignore[no-any-return]


class _Masked(nn.Module):
    """A convolution, each channel of which is masked by what is said before and after."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        n_frames = x.shape[-1]
        segments = F.avg_pool1d(x, _SEGMENT, _SEGMENT, ceil_mode=True)
        # the mean of a segment is the same for all its frames, and so is its mask
        context = F.relu(self.linear1(x.mean(dim=-1, keepdim=True) + segments))
        mask = torch.sigmoid(self.linear2(context)).repeat_interleave(_SEGMENT, dim=-1)
        return self.linear_local(x) * mask[..., :n_frames]  # type: ignore[no-any-return]


class _Layer(nn.Module):
    def __init__(self, before: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(before)
        self.linear1 = nn.Conv1d(before, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm(_BOTTLENECK)
        self.cam_layer = _Masked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.nonlinear2(self.linear1(self.nonlinear1(x)))
        return self.cam_layer(inner)  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Layers, each of which sees all before it."""

    def __init__(self, channels: int, count: int, dilation: int) -> None:
        super().__init__()
        for number in range(count):
            self.add_module(f"tdnnd{number + 1}", _Layer(channels + number * _GROWTH, dilation))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class _Transit(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.nonlinear = _norm(before)
        self.linear = nn.Conv1d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x))  # type: ignore[no-any-return]


class _Dense(nn.Module):
    """Mean and deviation over time, to an embedding, rectified as in the wheel's own traced copy.

    That matters: on seven real meetings cpWER − WER is 4.6 % so, and 9.4 % without.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(before, after, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(after, affine=False)))

    def forward(self, x: Tensor) -> Tensor:
        statistics = torch.cat([x.mean(dim=-1), x.std(dim=-1)], dim=-1)
        return F.relu(self.nonlinear(self.linear(statistics[..., None])[..., 0]))

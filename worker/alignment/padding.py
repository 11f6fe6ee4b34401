"""Which wav2vec2 models give the same emission for a padded recording as for a bare one.

Padding is exact where every layer can be told what is padding: layer norm works frame by frame,
attention takes a mask, and the zeros that stand for padded frames are what the positional
convolution sees beyond the end of a bare recording. Two things break it: the group norm of the
first layer, which takes its mean over all frames (error of a logit: up to 0.37 with zeros; here
it is run on the frames that are not padding), and models that normalise their whole input.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torchaudio.models.wav2vec2.components import SelfAttention
from torchaudio.models.wav2vec2.model import Wav2Vec2Model
from transformers import Wav2Vec2ForCTC


def can_be_padded(model: nn.Module) -> bool:
    """Whether padding is known to be exact for this model; where unsure, it is not.

    Torchaudio's bundles that normalise their input are of another class than the bare model.
    """
    if isinstance(model, Wav2Vec2Model):
        layers = model.encoder.transformer.layers
        return all(isinstance(layer.attention, SelfAttention) for layer in layers)
    if isinstance(model, Wav2Vec2ForCTC):
        return not model.config.add_adapter
    return False


def count_frames(model: nn.Module, n_samples: int) -> int:
    """Return how many frames of emission a paddable model gives for so many samples."""
    return _after(_layers(model), n_samples)


@contextmanager
def first_norm_told(model: nn.Module, n_samples: Sequence[int]) -> Iterator[None]:
    """Make the first layer's group norm, if the model has one, look at no padding.

    Args:
        model: One that can be padded. Nothing else may use it meanwhile.
        n_samples: Of each recording in the batch.
    """
    first = _layers(model)[0]
    norm = getattr(first, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        yield
        return
    first.layer_norm = _RowByRow(norm, [_after([first], n) for n in n_samples])
    try:
        yield
    finally:
        first.layer_norm = norm


class _RowByRow(nn.Module):
    """Normalises each row of a batch by its own frames, with the kernel of an unpadded one."""

    def __init__(self, norm: nn.GroupNorm, n_frames: Sequence[int]) -> None:
        super().__init__()
        self._norm, self._n_frames = norm, n_frames

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalise in place; padding stays as it is.

        Args:
            x: Shape (n_rows, n_channels, n_frames).
        """
        for row, n in zip(x, self._n_frames, strict=True):
            row[:, :n] = self._norm(row[None, :, :n])[0]
        return x


def _layers(model: nn.Module) -> Any:
    """Return the convolutions over time; both libraries name them alike."""
    if isinstance(model, Wav2Vec2Model):
        return model.feature_extractor.conv_layers
    return model.wav2vec2.feature_extractor.conv_layers  # type: ignore[union-attr]


def _after(layers: Any, n: int) -> int:
    for layer in layers:
        n = max(0, (n - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1)
    return n

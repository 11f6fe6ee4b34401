"""GE2E: speaker embeddings of the demo profile, as a `pyannote.audio.Model`.

The checkpoint that `builder` writes names this class by its module. Network and front end follow
resemblyzer 0.1.4 (`voice_encoder.py`, `audio.py`, `hparams.py`), after Wan et al., "Generalized
End-to-End Loss for Speaker Verification" (arXiv:1710.10467).
"""

from collections.abc import Callable
from typing import Any

import torch
from pyannote.audio import Model
from torch import Tensor, nn
from torch.nn import functional as F
from torchaudio.functional import melscale_fbanks

N_FFT = 400
HOP = 160
N_MELS = 40
WINDOW_FRAMES = 160
WINDOW_HOP = 80
MIN_COVERAGE_FRAMES = 120
"""A last window holding less speech than this (75 %) is left out, unless it is the only one."""
TARGET_RMS = 10 ** (-30 / 20)
"""-30 dBFS: quieter speech is raised to this, louder speech is left alone."""
MIN_RMS = 1e-5
"""Digital silence is not raised beyond this floor (-100 dBFS)."""
DIMENSION = 256


class GE2EEmbedding(Model):  # type: ignore[misc]  # pyannote ships no types
    """A three-layer LSTM over mel frames, averaged over windows of 1.6 s.

    Only frames whose weight is above one half are embedded; they are joined before they are
    cut into windows, as resemblyzer joins speech after it has trimmed silence. Without any
    such frame the answer is the embedding of silence: finite, so that clustering, which
    compares inactive rows too, never sees NaN.

    Args:
        sample_rate: In hertz; the front end is defined for 16000 only.
        num_channels: 1.
        task: pyannote's; unused, since this model is never trained here.
    """

    def __init__(self, sample_rate: int = 16000, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.lstm = nn.LSTM(N_MELS, DIMENSION, num_layers=3, batch_first=True)
        self.linear = nn.Linear(DIMENSION, DIMENSION)
        filters = melscale_fbanks(N_FFT // 2 + 1, 0.0, 8000.0, N_MELS, 16000, "slaney", "slaney")
        self.register_buffer("mel_filters", filters, persistent=False)
        self.register_buffer("stft_window", torch.hann_window(N_FFT), persistent=False)

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return DIMENSION

    def forward(self, waveforms: Tensor, weights: Tensor | None = None) -> Tensor:
        """Embed each waveform, or the part of it that its weights keep.

        Args:
            waveforms: (batch, 1, samples), 16 kHz, in [-1, 1]; any length from one sample.
            weights: (batch, frames), or (batch, speakers, frames) for several embeddings of
                each waveform; any frame rate; None keeps everything.

        Returns:
            (batch, 256), or (batch, speakers, 256); non-negative, unit length, finite.
        """
        return under_masks(self._embed_masks, waveforms, weights)

    def _embed_masks(self, waveforms: Tensor, masks: Tensor) -> Tensor:
        """Embed each waveform under each of its masks (batch, speakers, frames).

        Mels are made once a waveform. What the network hears depends on the mask, so rows go
        through it one by one, except those that keep nothing: they are all alike, and go as one.
        """
        mono, flat = waveforms[:, 0], masks.flatten(0, 1)
        mels = self.mel_frames(mono)
        keep = stretch(flat, mels.shape[1]) > 0.5
        rows = torch.nonzero(keep.any(dim=1)).flatten()
        sources = rows // masks.shape[1]
        power = _gain(mono[sources], stretch(flat[rows], mono.shape[1]) > 0.5) ** 2
        windows = [
            _cut(mels[source][keep[row]] * p)
            for source, row, p in zip(sources, rows, power, strict=True)
        ]
        silence = mels.new_zeros(1, WINDOW_FRAMES, N_MELS)
        partials = self._embed(torch.cat([silence, *windows]))
        vectors = partials[:1].repeat(len(flat), 1)
        if windows:
            parts = torch.split(partials[1:], [len(w) for w in windows])
            vectors[rows] = torch.stack([part.mean(dim=0) for part in parts])
        return _unit(vectors).reshape(*masks.shape[:2], DIMENSION)

    def mel_frames(self, mono: Tensor) -> Tensor:
        """Compute power mels, linear: not their logarithm.

        Args:
            mono: (batch, samples).

        Returns:
            (batch, 1 + samples // 160, 40).
        """
        spectrum = torch.stft(
            mono, N_FFT, HOP, window=self.stft_window, pad_mode="constant", return_complex=True
        )
        mels: Tensor = spectrum.abs().square().transpose(1, 2) @ self.mel_filters
        return mels

    def _embed(self, windows: Tensor) -> Tensor:
        """Embed windows (n, 160, 40) one by one: (n, 256), unit length."""
        _, (hidden, _) = self.lstm(windows)
        return _unit(F.relu(self.linear(hidden[-1])))


def under_masks(
    embed: Callable[[Tensor, Tensor], Tensor], waveforms: Tensor, weights: Tensor | None
) -> Tensor:
    """Embed as pyannote asks for it: under no mask, one or several of each waveform.

    Args:
        embed: Takes waveforms and (batch, speakers, frames); gives (batch, speakers, dimension).
        waveforms: (batch, 1, samples).
        weights: None, (batch, frames) or (batch, speakers, frames).
    """
    if weights is None:
        weights = waveforms.new_ones(len(waveforms), 1)
    if weights.dim() == 2:
        return embed(waveforms, weights[:, None])[:, 0]
    return embed(waveforms, weights)


def stretch(weights: Tensor, n: int) -> Tensor:
    """Bring weights (batch, frames) to n columns by nearest neighbour."""
    stretched: Tensor = F.interpolate(weights[:, None].float(), size=n, mode="nearest")
    return stretched[:, 0]


def _gain(mono: Tensor, keep: Tensor) -> Tensor:
    """Find the factor, at least 1, that brings the kept samples to -30 dBFS: (batch,)."""
    kept = mono.square() * keep
    rms = (kept.sum(dim=1) / keep.sum(dim=1).clamp(min=1)).sqrt()
    gain: Tensor = TARGET_RMS / rms.clamp(min=MIN_RMS)
    return gain.clamp(min=1.0)


def _cut(mel: Tensor) -> Tensor:
    """Cut mel frames (n, 40) into windows (m, 160, 40), the last one filled with silence."""
    extra = mel.shape[0] - MIN_COVERAGE_FRAMES
    count = 1 + max(0, extra // WINDOW_HOP)
    length = WINDOW_FRAMES + (count - 1) * WINDOW_HOP
    padded = F.pad(mel, (0, 0, 0, max(0, length - mel.shape[0])))[:length]
    return padded.unfold(0, WINDOW_FRAMES, WINDOW_HOP).transpose(1, 2)


def _unit(vectors: Tensor) -> Tensor:
    """Scale to unit length; the small offset keeps an all-zero vector (after ReLU) finite."""
    return F.normalize(vectors + 1e-7, dim=-1)

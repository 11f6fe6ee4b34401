"""Acoustic model: int16 slices of a waveform in, log-probabilities of each label in each frame out.

One slice at a time gives whisperx's emissions to the bit, if torch has as many threads. In a padded
batch, or with other threads, the same products are added up in another order (a logit moves by some
1e-6); a model for which padding is not known to be exact gets no batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torchaudio.models.wav2vec2.components import SelfAttention
from torchaudio.models.wav2vec2.model import Wav2Vec2Model
from transformers import Wav2Vec2ForCTC
from whisperx.utils import LANGUAGES_WITHOUT_SPACES

from worker.engines import one_ahead
from worker.engines.alignment.ctc import Emission
from worker.types import SAMPLE_RATE_HZ, Samples

SHORTEST = 400
"""Samples that wav2vec2 needs for a frame; whisperx pads what is shorter."""
_UNIT = 30 * SAMPLE_RATE_HZ  # the longest segment that Whisper gives


@dataclass(frozen=True)
class Aligner:
    """A wav2vec2 CTC model of one language, as ``whisperx.load_align_model`` gives it."""

    model: nn.Module
    metadata: dict[str, Any]
    name: str

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def is_torchaudios(self) -> bool:
        """Whether it is torchaudio's and not Hugging Face's: they are called differently."""
        return bool(self.metadata["type"] == "torchaudio")

    @property
    def joiner(self) -> str:
        """What stands between words in this language."""
        return "" if self.metadata["language"] in LANGUAGES_WITHOUT_SPACES else " "


@dataclass(frozen=True)
class Batch:
    """Slices that go through the model together.

    Attributes:
        members: Their indices in the list that was planned, longest first.
        n_samples: Their lengths; 0 where a slice lies past the waveform's end.
    """

    members: tuple[int, ...]
    n_samples: tuple[int, ...]


def plan_batches(n_samples: Sequence[int], batch_size: int, aligner: Aligner) -> list[Batch]:
    """Put slices of similar length together, the longest first: what does not fit fails early.

    Args:
        n_samples: Length of each slice.
        batch_size: 1: one slice at a time. More: as many as are padded to no more than so many
            times 30 s, if the model allows padding.
        aligner: Runs them.
    """
    order = sorted(range(len(n_samples)), key=lambda i: -n_samples[i])
    room = batch_size * _UNIT if batch_size > 1 and can_be_padded(aligner.model) else 0
    groups: list[list[int]] = []
    for i in order:
        group = groups[-1] if groups else []
        padded = n_samples[group[0]] * (len(group) + 1) if group else 0
        if group and n_samples[i] >= SHORTEST and padded <= room:
            group.append(i)
        else:
            groups.append([i])
    return [Batch(tuple(g), tuple(n_samples[i] for i in g)) for g in groups]


def emit(
    read: Callable[[int], Samples], batches: Iterable[Batch], aligner: Aligner, lanes: int = 1
) -> Iterator[tuple[int, Emission]]:
    """Give the index of a slice and its log-probabilities, shape (n_frames, n_labels).

    The next batches run while the caller works on the last. A batch keeps a CUDA device busy; on a
    CPU slices go side by side, each in one thread: four of 12 s through WAV2VEC2_ASR_BASE_960H on
    2 busy cores take 16.9 s one by one with 2 threads, 11.3 s in a batch, 7.7 s in 2 lanes.

    Args:
        read: Returns a slice, int16, shape (n_samples,); several threads call it.
        batches: Of the slices.
        aligner: Runs them.
        lanes: On the CPU, batches of one slice that run side by side.
    """
    run = partial(_send, read, aligner=aligner)
    if aligner.device.type == "cuda":
        sent = one_ahead(map(run, batches))
    elif lanes > 1:
        sent = _side_by_side(run, batches, lanes)
    else:
        sent = map(run, batches)
    for one in sent:
        yield from one.receive(aligner)


@torch.inference_mode()
def log_probabilities(
    samples: torch.Tensor, n_samples: Sequence[int], aligner: Aligner
) -> torch.Tensor:
    """Run the model; return log-probabilities on the device, shape (n_rows, n_frames, n_labels).

    Args:
        samples: int16 on the host, shape (n_rows, width), zeros after each row's end.
        n_samples: Length of each row. A single row of 400 samples or more is not padded.
        aligner: Runs them.
    """
    waveforms = _on_device(samples, aligner.device)
    if len(n_samples) > 1:
        with first_norm_told(aligner.model, n_samples):
            logits = _run_padded(aligner, waveforms, n_samples)
    else:
        logits = _run_one(aligner, waveforms, n_samples[0])
    return torch.log_softmax(logits, dim=-1)


def can_be_padded(model: nn.Module) -> bool:
    """Whether padding is known to be exact for this model; where unsure, it is not.

    It is where every layer can be told what is padding: layer norm works frame by frame, attention
    takes a mask, and zeros for padded frames are what the positional convolution sees beyond the
    end of a bare recording. `first_norm_told` mends the first layer's group norm.

    Torchaudio's bundles that normalise their input are of another class than the bare model.
    """
    if isinstance(model, Wav2Vec2Model):
        layers = model.encoder.transformer.layers
        return all(isinstance(layer.attention, SelfAttention) for layer in layers)
    if isinstance(model, Wav2Vec2ForCTC):
        return not model.config.add_adapter
    return False


@contextmanager
def first_norm_told(model: nn.Module, n_samples: Sequence[int]) -> Iterator[None]:
    """Make the first layer's group norm, if the model has one, look at no padding.

    Its mean over all frames moves a logit by up to 0.37 when there are zeros among them.

    Args:
        model: One that can be padded. Nothing else may use it meanwhile.
        n_samples: Of each recording in the batch.
    """
    first = _layers(model)[0]
    norm = getattr(first, "layer_norm", None)
    if not isinstance(norm, nn.GroupNorm):
        yield
        return
    # upstream: torchaudio 2.8.0, transformers 4.57.6, no issue known; can go when their group norm
    # takes a mask
    first.layer_norm = _RowByRow(norm, [_count_frames([first], n) for n in n_samples])
    try:
        yield
    finally:
        first.layer_norm = norm


def _side_by_side(
    run: Callable[[Batch], _Sent], batches: Iterable[Batch], lanes: int
) -> Iterator[_Sent]:
    """Give the batches in order, with one more than run at a time begun."""
    pool = ThreadPoolExecutor(lanes, "align")
    begun: deque[Future[_Sent]] = deque()
    try:
        for batch in batches:
            begun.append(pool.submit(run, batch))
            if len(begun) > lanes:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Sent:
    """A batch whose emissions are on the host once ``arrival``, if there is one, has come."""

    batch: Batch
    on_host: torch.Tensor
    arrival: torch.cuda.Event | None

    def receive(self, aligner: Aligner) -> Iterator[tuple[int, Emission]]:
        if self.arrival is not None:
            self.arrival.synchronize()
        is_padded = len(self.batch.members) > 1
        for row, i, n in zip(self.on_host, self.batch.members, self.batch.n_samples, strict=True):
            n_frames = _count_frames(_layers(aligner.model), n) if is_padded else len(row)
            yield i, row[:n_frames].numpy()


def _send(read: Callable[[int], Samples], batch: Batch, aligner: Aligner) -> _Sent:
    on_cuda = aligner.device.type == "cuda"
    shape = len(batch.members), max(SHORTEST, *batch.n_samples)
    samples = _silence(shape, pinned=on_cuda)
    for row, i, n in zip(samples.numpy(), batch.members, batch.n_samples, strict=True):
        row[:n] = read(i)
    emissions = log_probabilities(samples, batch.n_samples, aligner)
    if not on_cuda:
        return _Sent(batch, emissions.cpu(), None)
    on_host = torch.empty(emissions.shape, dtype=emissions.dtype, pin_memory=True)
    on_host.copy_(emissions, non_blocking=True)
    arrival = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrival.record()  # type: ignore[no-untyped-call]
    return _Sent(batch, on_host, arrival)


def _silence(shape: tuple[int, int], pinned: bool) -> torch.Tensor:
    """Return int16 zeros on the host; see `_on_device` for who makes them."""
    if pinned:
        return torch.zeros(shape, dtype=torch.int16, pin_memory=True)
    return torch.from_numpy(np.zeros(shape, np.int16))


def _on_device(samples: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return samples in [-1, 1), float32, made where they are needed: half as much to copy.

    On the CPU NumPy does it: torch would wake all its threads for a millisecond's work.
    """
    if device.type == "cpu":
        scaled = np.multiply(samples.numpy(), np.float32(1 / 32768), dtype=np.float32)
        return torch.from_numpy(scaled)
    return samples.to(device, non_blocking=True).to(torch.float32) / 32768


def _run_one(aligner: Aligner, waveform: torch.Tensor, n_samples: int) -> torch.Tensor:
    """Run one slice as whisperx does, which tells only torchaudio's models of its padding."""
    if not aligner.is_torchaudios:
        return aligner.model(waveform).logits  # type: ignore[no-any-return]
    is_short = n_samples < SHORTEST
    lengths = torch.as_tensor([n_samples], device=waveform.device) if is_short else None
    return aligner.model(waveform, lengths=lengths)[0]  # type: ignore[no-any-return]


def _run_padded(
    aligner: Aligner, waveforms: torch.Tensor, n_samples: Sequence[int]
) -> torch.Tensor:
    lengths = torch.as_tensor(n_samples, device=waveforms.device)
    if aligner.is_torchaudios:
        return aligner.model(waveforms, lengths=lengths)[0]  # type: ignore[no-any-return]
    positions = torch.arange(waveforms.shape[1], device=waveforms.device)
    mask = (positions < lengths[:, None]).long()
    return aligner.model(waveforms, attention_mask=mask).logits  # type: ignore[no-any-return]


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


def _count_frames(layers: Any, n: int) -> int:
    """Return how many frames the convolutions make of ``n`` samples."""
    for layer in layers:
        n = max(0, (n - layer.conv.kernel_size[0]) // layer.conv.stride[0] + 1)
    return n

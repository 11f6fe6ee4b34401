"""The network, a `Wav2Vec2ForCTC` of 1.86 million parameters, and its training.

Takes a corpus; writes a folder for `whisperx.load_align_model`. Frames come every 20 ms and see 350
samples, so that `whisperx.align`'s shortest input (400 samples) still gives a frame. The first
three convolutions start as a filter bank; frame labels are learnt all along, CTC on top later.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from tools.train_aligner.corpus import Utterance
from tools.train_aligner.examples import (
    BLANK,
    CHANNELS,
    KERNELS,
    LABELS,
    STRIDES,
    VOCABULARY,
    Batch,
    Windows,
    count_frames,
)
from tools.train_aligner.speech import SAMPLE_RATE_HZ

LOWEST_HZ, HIGHEST_HZ = 80.0, 7600.0
PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 80
HOLD = 0.45
"""Share of the run after which the learning rate falls, along a cosine."""
LABEL_WEIGHT = 1.5
"""Of frames that are not blank."""
CTC_WEIGHT = 0.5
EMA_DECAY = 0.9985
LOG_EVERY = 25


def build(seed: int = 0) -> nn.Module:
    """Make an untrained network."""
    torch.manual_seed(seed)
    model: nn.Module = Wav2Vec2ForCTC(_config())
    with torch.no_grad():
        _start_convolutions(model)
        _start_encoder(model)
    return model


def save(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write weights, half precision, as a folder for `whisperx.load_align_model`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(json.dumps(LABELS), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), do_lower_case=False)
    extractor = Wav2Vec2FeatureExtractor(
        sampling_rate=SAMPLE_RATE_HZ, do_normalize=False, return_attention_mask=False
    )
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    model = Wav2Vec2ForCTC(_config())
    model.load_state_dict(state)
    model.half().save_pretrained(folder)
    _declare_float32(folder / "config.json")


def _declare_float32(path: Path) -> None:
    """Have the half-precision weights loaded as float32, which is what a CPU computes in."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("torch_dtype", None)
    path.write_text(json.dumps(config | {"dtype": "float32"}, indent=1), encoding="utf-8")


def _config() -> Wav2Vec2Config:
    dropouts = ("hidden", "attention", "activation", "feat_proj", "final")
    no_dropout = {f"{place}_dropout": 0.0 for place in dropouts}
    return Wav2Vec2Config(
        vocab_size=len(VOCABULARY),
        hidden_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        conv_dim=CHANNELS,
        conv_kernel=KERNELS,
        conv_stride=STRIDES,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        **no_dropout,
    )


def _start_convolutions(model: Any) -> None:
    layers = [layer.conv for layer in model.wav2vec2.feature_extractor.conv_layers]
    layers[0].weight.copy_(torch.from_numpy(gabor_filters()) * 10)
    layers[0].bias.uniform_(-0.1, 0.1)
    for layer in layers[1:]:
        nn.init.kaiming_normal_(layer.weight)
        layer.bias.zero_()
    _start_envelopes(layers[1].weight, layers[2].weight)


def gabor_filters() -> NDArray[np.float32]:
    """Make mel-spaced Gabor filters in pairs a quarter period apart: (96, 1, 160)."""
    time_s = (np.arange(KERNELS[0]) - (KERNELS[0] - 1) / 2) / SAMPLE_RATE_HZ
    mels = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), CHANNELS[0] // 2)
    rows = []
    for centre_hz in 700 * (10 ** (mels / 2595) - 1):
        bandwidth_hz = 24.7 + 0.108 * centre_hz  # equivalent rectangular bandwidth
        window = np.exp(-0.5 * (time_s / min(0.0028, 0.35 / bandwidth_hz)) ** 2)
        for phase in (0.0, np.pi / 2):
            wave = window * np.cos(2 * np.pi * centre_hz * time_s + phase)
            wave -= window * wave.sum() / window.sum()
            rows.append(wave / np.linalg.norm(wave) * np.sqrt(1 + centre_hz / 1000))
    return np.array(rows, dtype=np.float32)[:, None]


def _mel(hz: float) -> float:
    return float(2595 * np.log10(1 + hz / 700))


def _start_envelopes(second: torch.Tensor, third: torch.Tensor) -> None:
    """Rectify and average each pair of filters: band envelopes from the first step on.

    Both signs of each band are kept, so that GELU, which cuts one, loses nothing.
    """
    bands = CHANNELS[0] // 2
    second.mul_(0.1)
    third[: 2 * bands].mul_(0.1)
    for band in range(bands):
        for row, sign in ((band, 1.0), (bands + band, -1.0)):
            second[row, 2 * band : 2 * band + 2] += sign / (2 * KERNELS[1])
            third[row, band] += sign / KERNELS[2]
            third[row, bands + band] -= sign / KERNELS[2]


def _start_encoder(model: Any) -> None:
    nn.init.normal_(model.lm_head.weight, std=0.02)
    for layer in model.wav2vec2.encoder.layers:
        for name, weight in layer.named_parameters():
            if weight.ndim == 2:
                into_residual = "out_proj" in name or "output_dense" in name
                nn.init.xavier_uniform_(weight, 0.35 if into_residual else 1.0)


@dataclass(frozen=True)
class Schedule:
    """What depends on the share of the run that is over, 0 to 1."""

    progress: float

    def rate(self, step: int) -> float:
        """Learning rate."""
        fall = max(0.0, (self.progress - HOLD) / (1 - HOLD))
        cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, fall)))
        return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * cosine

    @property
    def ctc(self) -> float:
        """Weight of the CTC loss: none for the first tenth, all from 35 % on."""
        return CTC_WEIGHT * min(1.0, max(0.0, (self.progress - 0.10) / 0.25))

    @property
    def strength(self) -> float:
        """Share of distorted examples."""
        return 0.15 + 0.75 * min(1.0, self.progress / 0.5)


class Trainer:
    """A network, its optimizer and the running average of its weights.

    Args:
        seed: Of the network's start.
    """

    def __init__(self, seed: int = 0) -> None:
        self.model = build(seed)
        self.average = {k: v.clone() for k, v in self.model.state_dict().items()}
        self.steps = 0
        matrices = [p for p in self.model.parameters() if p.ndim > 1]
        vectors = [p for p in self.model.parameters() if p.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}],
            betas=(0.9, 0.98),
            eps=1e-7,
        )
        self._weights = torch.full((len(VOCABULARY),), LABEL_WEIGHT)
        self._weights[BLANK] = 1.0

    def step(self, batch: Batch, schedule: Schedule) -> float:
        """Take one step and return the frame loss, which unlike the sum is comparable."""
        for group in self._optimizer.param_groups:
            group["lr"] = schedule.rate(self.steps)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = self.model(batch.sound).logits
        log_probs = logits.float().log_softmax(-1)
        frame_loss = F.nll_loss(log_probs.flatten(0, 1), batch.labels.flatten(), self._weights)
        loss = frame_loss + schedule.ctc * _ctc_loss(log_probs, batch)
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self._optimizer.step()
        self.steps += 1
        self._update_average()
        return frame_loss.item()

    def _update_average(self) -> None:
        decay = min(EMA_DECAY, (1 + self.steps) / (20 + self.steps))
        for name, value in self.model.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - decay)


def train(utterances: list[Utterance], steps: int, folder: Path, seed: int = 1) -> list[float]:
    """Train a network from nothing, on one thread, and save its averaged weights.

    Args:
        utterances: The training corpus.
        steps: How long to train; the schedule follows them.
        folder: Where to save it, for `whisperx.load_align_model`.
        seed: Of the batches.

    Returns:
        The frame loss of every step.
    """
    torch.set_num_threads(1)
    windows, trainer, losses = Windows(utterances, seed), Trainer(), list[float]()
    for step in range(steps):
        schedule = Schedule(step / steps)
        losses.append(trainer.step(windows.draw(schedule.strength), schedule))
        if trainer.steps % LOG_EVERY == 0:
            recent = sum(losses[-LOG_EVERY:]) / LOG_EVERY
            print(f"step {trainer.steps} of {steps}  frame loss {recent:.3f}", flush=True)
    save(trainer.average, folder)
    return losses


def _ctc_loss(log_probs: torch.Tensor, batch: Batch) -> torch.Tensor:
    """CTC loss a character."""
    count, n_samples = batch.sound.shape
    lengths = torch.tensor([len(sequence) for sequence in batch.sequences])
    targets = torch.tensor([c for sequence in batch.sequences for c in sequence])
    frames = torch.full((count,), count_frames(n_samples))
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True
    )
    return loss / max(1, int(lengths.sum()))

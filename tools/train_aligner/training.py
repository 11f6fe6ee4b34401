"""The network, a `Wav2Vec2ForCTC` of 1.86 million parameters, and its training.

Takes a corpus; writes a folder for `whisperx.load_align_model`. Frames come every 20 ms and see 350
samples, so that `whisperx.align`'s shortest input (400 samples) still gives a frame. The first
three convolutions start as a filter bank; frame labels are learnt all along, CTC on top later.
"""

import json
import math
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

from bench.corpus import SAMPLE_RATE_HZ
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
)

LOWEST_HZ, HIGHEST_HZ = 80.0, 7600.0
PEAK_RATE = 1.5e-3
WARM_UP_STEPS = 80
HOLD = 0.45
"""Share of the run after which the learning rate falls, along a cosine."""
LABEL_WEIGHT = 1.5
"""Of frames that are not blank."""
CTC_WEIGHT = 0.5
EMA_DECAY = 0.9985


def build() -> nn.Module:
    """Make an untrained network."""
    torch.manual_seed(0)
    model: nn.Module = Wav2Vec2ForCTC(_config())
    with torch.no_grad():
        _start_convolutions(model)
        _start_encoder(model)
    return model


def save(state: dict[str, torch.Tensor], folder: Path) -> None:
    """Write weights, half precision, as a folder for `whisperx.load_align_model`."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, config = folder / "vocab.json", folder / "config.json"
    vocabulary.write_text(json.dumps(LABELS), encoding="utf-8")
    tokenizer = Wav2Vec2CTCTokenizer(str(vocabulary), do_lower_case=False)
    extractor = Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=False)
    Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer).save_pretrained(folder)
    model = Wav2Vec2ForCTC(_config())
    model.load_state_dict(state)
    model.half().save_pretrained(folder)
    # What is stored in half precision is loaded as float32, which is what a CPU computes in.
    values = json.loads(config.read_text(encoding="utf-8")) | {"dtype": "float32"}
    values.pop("torch_dtype", None)
    config.write_text(json.dumps(values, indent=1), encoding="utf-8")


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


def train(utterances: list[Utterance], steps: int, folder: Path) -> list[float]:
    """Train a network from nothing, on one thread, and save the running average of its weights.

    Returns:
        The frame loss of every step, which unlike the sum is comparable.
    """
    torch.set_num_threads(1)
    windows, model, losses = Windows(utterances, seed=1), build(), list[float]()
    average = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = _optimizer(model)
    for step in range(steps):
        progress = step / steps
        batch = windows.draw(0.15 + 0.75 * min(1.0, progress / 0.5))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress)
        # CTC counts nothing for the first tenth, all from 35 % on.
        ctc_weight = CTC_WEIGHT * min(1.0, max(0.0, (progress - 0.10) / 0.25))
        losses.append(_step(model, optimizer, batch, ctc_weight))
        decay = min(EMA_DECAY, (2 + step) / (21 + step))
        for name, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                average[name].lerp_(value, 1 - decay)
        print(f"step {step + 1} of {steps}  frame loss {losses[-1]:.3f}", flush=True)
    save(average, folder)
    return losses


def learning_rate(step: int, progress: float) -> float:
    """Return the rate of a step: warm-up, a plateau, then a cosine; `progress` is 0 to 1."""
    fall = max(0.0, (progress - HOLD) / (1 - HOLD))
    cosine = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fall))
    return PEAK_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * cosine


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-7)


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, ctc_weight: float
) -> float:
    """Take one step and return the frame loss."""
    weights = torch.full((len(VOCABULARY),), LABEL_WEIGHT)
    weights[BLANK] = 1.0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(batch.sound).logits
    log_probs = logits.float().log_softmax(-1)
    frame_loss = F.nll_loss(log_probs.flatten(0, 1), batch.labels.flatten(), weights)
    loss = frame_loss + ctc_weight * _ctc_loss(log_probs, batch.sequences)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    if torch.isfinite(nn.utils.clip_grad_norm_(model.parameters(), 1.0)):
        optimizer.step()
    return frame_loss.item()


def _ctc_loss(log_probs: torch.Tensor, sequences: list[list[int]]) -> torch.Tensor:
    """CTC loss a character."""
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    targets = torch.tensor([c for sequence in sequences for c in sequence])
    frames = torch.full((len(sequences),), log_probs.shape[1])
    loss = F.ctc_loss(
        log_probs.transpose(0, 1), targets, frames, lengths, reduction="sum", zero_infinity=True
    )
    return loss / max(1, int(lengths.sum()))

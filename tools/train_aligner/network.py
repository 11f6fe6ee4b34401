"""The network: a `Wav2Vec2ForCTC` of 1.86 million parameters, its start and its files.

Frames come every 20 ms and see 350 samples, so that `whisperx.align`'s shortest input (it pads
to 400 samples) still gives a frame. The first three convolutions start as a filter bank.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Processor,
)

from tools.train_aligner.speech import SAMPLE_RATE_HZ

VOCABULARY = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
LABELS = {label: index for index, label in enumerate(VOCABULARY)}
BLANK, BOUNDARY = LABELS["<pad>"], LABELS["|"]

KERNELS, STRIDES, CHANNELS = (160, 4, 3, 2, 1), (10, 4, 2, 2, 2), (96, 96, 128, 128, 160)
HOP = 320
LOWEST_HZ, HIGHEST_HZ = 80.0, 7600.0


def count_frames(n_samples: int) -> int:
    """Return how many frames the network gives for so many samples."""
    for kernel, stride in zip(KERNELS, STRIDES, strict=True):
        n_samples = (n_samples - kernel) // stride + 1
    return n_samples


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

"""Aligners small enough to run hundreds of times, and what whisperx gives with them: the oracle."""

from __future__ import annotations

import math
from functools import cache
from typing import Any
from unittest.mock import patch

import nltk.data
import pytest
import torch
import whisperx
import whisperx.alignment as stock
from torch import nn
from torchaudio.models import wav2vec2_model
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from worker.engines.alignment.acoustic import Aligner
from worker.engines.alignment.words import PlacedSentence, PlacedWord
from worker.host.log import quiet_libraries
from worker.settings import WorkerSettings
from worker.types import TextSegment, Waveform

LETTERS = "|etaoinshrdlumwcfgypbvk'xjqz"
CONVOLUTIONS = [(32, 10, 5), (32, 8, 4), (32, 4, 4), (32, 2, 2), (32, 2, 2)]


@pytest.fixture(scope="session")
def aligners() -> list[Aligner]:
    """The demo's English aligner; torchaudio's and transformers' group norm; and no spaces."""
    quiet_libraries()
    folder = WorkerSettings().models_dir
    nltk.data.path.insert(0, str(folder / "nltk_data"))
    torch.manual_seed(0)
    model, metadata = whisperx.load_align_model("en", "cpu", model_name=str(folder / "align/en"))
    small, grouped = torchaudio_model(), transformers_model("group", n_labels=30)
    dashed = {char: label for label, char in enumerate("-" + LETTERS)}
    padded = {char: label for label, char in enumerate(LETTERS[1:] + "5é…")} | {"[pad]": 30}
    return [
        Aligner(model.eval(), metadata, "demo"),
        Aligner(small, {"language": "de", "dictionary": dashed, "type": "torchaudio"}, "group"),
        Aligner(
            transformers_model("group", n_labels=31),
            {"language": "xx", "dictionary": padded, "type": "huggingface"},
            "transformers",
        ),
        Aligner(grouped, {"language": "ja", "dictionary": dashed, "type": "huggingface"}, "ja"),
    ]


def torchaudio_model(mode: str = "group_norm") -> nn.Module:
    """A small model of torchaudio's, with random weights that give uneven emissions."""
    model = wav2vec2_model(
        extractor_mode=mode,
        extractor_conv_layer_config=CONVOLUTIONS,
        extractor_conv_bias=False,
        encoder_embed_dim=32,
        encoder_projection_dropout=0.1,
        encoder_pos_conv_kernel=16,
        encoder_pos_conv_groups=4,
        encoder_num_layers=2,
        encoder_num_heads=4,
        encoder_attention_dropout=0.1,
        encoder_ff_interm_features=64,
        encoder_ff_interm_dropout=0.1,
        encoder_dropout=0.1,
        encoder_layer_norm_first=mode == "layer_norm",
        encoder_layer_drop=0.1,
        aux_num_out=1 + len(LETTERS),
    )
    model.aux.weight.data *= 30
    return model.eval()


def transformers_model(norm: str, n_labels: int = 32, attention: str = "sdpa") -> nn.Module:
    """A small model of transformers', with random weights that give uneven emissions."""
    widths, kernels, strides = zip(*CONVOLUTIONS, strict=True)
    config = Wav2Vec2Config(
        vocab_size=n_labels,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        attn_implementation=attention,
        conv_dim=widths,
        conv_kernel=kernels,
        conv_stride=strides,
    )
    model = Wav2Vec2ForCTC(config).eval()
    model.lm_head.weight.data *= 100
    return model


@cache
def _splitters() -> Any:
    """What whisperx reads its sentence splitter with, for every segment anew: that takes long."""
    nltk.data.clear_cache()  # another test may have read another folder's tables
    return cache(nltk.data.load)


def stock_sentences(
    waveform: Waveform, segment: TextSegment, aligner: Aligner
) -> list[PlacedSentence]:
    """Align one segment with whisperx; none where it raises, or gives no words."""
    asked = {"start": segment.start, "end": segment.end, "text": segment.text}
    try:
        with patch.object(stock, "nltk_load", _splitters()):
            sound = waveform.part(0, len(waveform.samples))
            found = whisperx.align([asked], aligner.model, aligner.metadata, sound, "cpu")
    except (KeyError, ValueError, IndexError):
        return []
    return [_sentence(s) for s in found["segments"] if s["words"] or s["text"] != segment.text]


def _sentence(found: dict[str, Any]) -> PlacedSentence:
    words = (
        PlacedWord(
            w["word"],
            float(w.get("start", math.nan)),
            float(w.get("end", math.nan)),
            float(w["score"]) if "score" in w else None,
        )
        for w in found["words"]
    )
    start, end = float(found["start"]), float(found["end"])
    return PlacedSentence(found["text"], start, end, tuple(words))

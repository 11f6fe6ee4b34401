"""The architectures of production's aligner and diarization, whose weights are not available here.

What a forward costs depends on its architecture, not on what its weights have learnt, so these are
seeded and random. Only PyanNet would then never hear anybody: whisperx's own is turned from
multi-label to powerset.
"""

from __future__ import annotations

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from bench.speed.inputs import derive_models
from builder.demo_diarization import CONFIG, write_checkpoint, write_pipeline

SEED = 5
SPEAKERS = 3
AT_ONCE = 2
WINDOW_S = 10.0
LDA_DIMENSION = 128
ALIGNER, DIARIZATION = "wav2vec2-base", "community-1-architecture"


def write_architectures(models: Path, into: Path) -> Path:
    """Make a models folder with these in the place of the demo's; return it."""
    changes = {
        "align": {"en": {"path": ALIGNER, "name": ALIGNER}},
        "diarization": {"path": DIARIZATION, "name": DIARIZATION},
    }
    folder = derive_models(models, into, changes)
    torch.manual_seed(SEED)
    aligner = shutil.copytree(models / "align" / "en", folder / ALIGNER, dirs_exist_ok=True)
    demo = Wav2Vec2Config.from_pretrained(aligner)
    base = Wav2Vec2Config(vocab_size=demo.vocab_size, pad_token_id=demo.pad_token_id)
    Wav2Vec2ForCTC(base).save_pretrained(aligner)  # with the letters of the demo's
    segmentation, embedding = (
        folder / DIARIZATION / part / "pytorch_model.bin" for part in ("segmentation", "embedding")
    )
    _write_powerset(models / "vad" / "pytorch_model.bin", segmentation)
    dimension = _write_embedding(embedding)
    config = CONFIG.format(
        kind="VBxClustering",
        clustering="threshold: 0.6, Fa: 0.07, Fb: 0.8",
        segmentation="min_duration_off: 0.0",
    )
    lda = np.eye(dimension)[:, :LDA_DIMENSION]  # keeps the first dimensions as they are
    write_pipeline(folder / DIARIZATION, config, lda, np.linspace(1.0, 0.1, LDA_DIMENSION))
    return folder.absolute()


def _write_embedding(target: Path) -> int:
    """Write WeSpeaker's ResNet34; return the length of its vectors."""
    network = WeSpeakerResNet34().eval()
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    architecture = "pyannote.audio.models.embedding.wespeaker.WeSpeakerResNet34"
    write_checkpoint(target, network.state_dict(), {}, architecture, specifications)
    return int(network.dimension)


def _write_powerset(multi_label: Path, target: Path) -> None:
    """Turn a multi-label checkpoint into a powerset one of the same trunk.

    A set's logit is the sum of its speakers' logits, so the best set holds the speakers whose
    logits are positive: those that a threshold of one half keeps.
    """
    trained = torch.load(multi_label, map_location="cpu", weights_only=False)
    sets = [s for size in range(AT_ONCE + 1) for s in combinations(range(SPEAKERS), size)]
    members = torch.tensor([[float(i in s) for i in range(SPEAKERS)] for s in sets])
    state = dict(trained["state_dict"])
    for name in ("classifier.weight", "classifier.bias"):
        state[name] = members @ state[name]
    specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=WINDOW_S,
        classes=[f"speaker#{i + 1}" for i in range(SPEAKERS)],
        powerset_max_classes=AT_ONCE,
        permutation_invariant=True,
    )
    architecture = "pyannote.audio.models.segmentation.PyanNet"
    write_checkpoint(target, state, trained["hyper_parameters"], architecture, specifications)

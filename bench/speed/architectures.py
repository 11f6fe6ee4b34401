"""Real architectures with seeded random weights, where real weights cannot be had.

What a forward costs depends on the architecture, not on what the weights have learnt. Each is
what production uses: WAV2VEC2_ASR_BASE_960H (torchaudio, group norm), wav2vec2 of the same size
with layer norm (Hugging Face), WeSpeaker's ResNet34, and PyanNet on windows of 10 s with powerset
output, as in pyannote's community-1. The last has no random weights: with them nobody would ever
speak. It is whisperx's segmentation, whose three speakers' outputs are added up into the seven
classes of the powerset, which has the same winners.
"""

from __future__ import annotations

from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchaudio
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

SEED = 5
SPEAKERS = 3
AT_ONCE = 2
WINDOW_S = 10.0
LDA_DIMENSION = 128
CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: VBxClustering
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    segmentation_batch_size: 32
    embedding_batch_size: 32
    embedding_exclude_overlap: true
params:
  clustering: {threshold: 0.6, Fa: 0.07, Fb: 0.8}
  segmentation: {min_duration_off: 0.0}
"""

Aligner = tuple[nn.Module, dict[str, Any]]
"""A model, and the metadata that ``whisperx.load_align_model`` gives with it."""


def wav2vec2_base() -> Aligner:
    """Build WAV2VEC2_ASR_BASE_960H as its bundle describes it."""
    bundle = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H
    torch.manual_seed(SEED)
    model = torchaudio.models.wav2vec2_model(**bundle._params)  # noqa: SLF001 -- no download
    return model.eval(), _metadata(bundle.get_labels(), "torchaudio")


def wav2vec2_layer_norm() -> Aligner:
    """Build wav2vec2 of the base size with layer norm, as the XLSR family has it."""
    labels = torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H.get_labels()
    config = Wav2Vec2Config(
        vocab_size=len(labels),
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    return Wav2Vec2ForCTC(config).eval(), _metadata(labels, "huggingface")


def write_diarization(segmentation: Path, folder: Path) -> None:
    """Write a pipeline folder with the architectures of community-1.

    Args:
        segmentation: whisperx's checkpoint.
        folder: Gets ``config.yaml``, ``segmentation``, ``embedding`` and ``plda``.
    """
    for part in ("segmentation", "embedding", "plda"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(CONFIG)
    trained = torch.load(segmentation, map_location="cpu", weights_only=False)
    torch.save(_powerset(trained), folder / "segmentation" / "pytorch_model.bin")
    torch.manual_seed(SEED)
    network = WeSpeakerResNet34().eval()
    torch.save(_resnet(network), folder / "embedding" / "pytorch_model.bin")
    _write_plda(folder / "plda", network.dimension)


def _metadata(labels: tuple[str, ...], kind: str) -> dict[str, Any]:
    dictionary = {label.lower(): index for index, label in enumerate(labels)}
    return {"language": "en", "dictionary": dictionary, "type": kind}


def _powerset(trained: dict[str, Any]) -> dict[str, Any]:
    """Turn a multi-label checkpoint into a powerset one of the same trunk.

    A set's logit is the sum of its speakers' logits, so the best set holds the speakers whose
    logits are positive: those that a threshold of one half keeps.
    """
    sets = [s for size in range(AT_ONCE + 1) for s in combinations(range(SPEAKERS), size)]
    members = torch.tensor([[float(i in s) for i in range(SPEAKERS)] for s in sets])
    state: dict[str, Tensor] = dict(trained["state_dict"])
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
    return _checkpoint(
        state,
        trained["hyper_parameters"],
        "pyannote.audio.models.segmentation.PyanNet",
        specifications,
    )


def _resnet(network: nn.Module) -> dict[str, Any]:
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=WINDOW_S
    )
    module = "pyannote.audio.models.embedding.wespeaker.WeSpeakerResNet34"
    return _checkpoint(network.state_dict(), {}, module, specifications)


def _checkpoint(
    state: dict[str, Tensor],
    hyper_parameters: dict[str, Any],
    architecture: str,
    specifications: Specifications,
) -> dict[str, Any]:
    module, _, name = architecture.rpartition(".")
    return {
        "state_dict": state,
        "hyper_parameters": hyper_parameters,
        "pytorch-lightning_version": version("lightning"),
        "pyannote.audio": {
            "versions": {"pyannote.audio": version("pyannote.audio")},
            "architecture": {"module": module, "class": name},
            "specifications": specifications,
        },
    }


def _write_plda(folder: Path, dimension: int) -> None:
    """Write PLDA matrices that keep the first dimensions as they are."""
    lda = np.eye(dimension)[:, :LDA_DIMENSION]
    np.savez(
        folder / "xvec_transform.npz",
        mean1=np.zeros(dimension),
        mean2=np.zeros(LDA_DIMENSION),
        lda=lda,
    )
    np.savez(
        folder / "plda.npz",
        mu=np.zeros(LDA_DIMENSION),
        tr=np.eye(LDA_DIMENSION),
        psi=np.linspace(1.0, 0.1, LDA_DIMENSION),
    )

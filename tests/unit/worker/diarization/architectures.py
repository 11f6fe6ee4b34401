"""Stock pipelines without their weights: community-1's architecture, and recordings for it."""

from __future__ import annotations

import wave
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pyannote.audio import Model
from pyannote.audio.core.plda import PLDA
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding.wespeaker import WeSpeakerResNet34
from pyannote.audio.models.segmentation.PyanNet import PyanNet
from pyannote.audio.pipelines import SpeakerDiarization
from pyannote.audio.utils.powerset import Powerset
from torch import nn
from whisperx.diarize import DiarizationPipeline

DIMENSION, LDA = 256, 128


def powerset_segmentation(like: Model | None = None, seed: int = 0) -> PyanNet:
    """Build a PyanNet for 10 s and sets of up to two of three speakers, as in community-1.

    Args:
        like: A multi-label PyanNet whose weights it gets: the score of a set is the sum of its
            members' logits, so it finds speakers where that one does. Without it: random weights.
        seed: Of random weights.
    """
    torch.manual_seed(seed)
    layers = {"hidden_size": 128, "num_layers": 4, "bidirectional": True, "monolithic": True}
    model = PyanNet(lstm=layers)
    model.specifications = Specifications(
        problem=Problem.MONO_LABEL_CLASSIFICATION,
        resolution=Resolution.FRAME,
        duration=10.0,
        classes=["a", "b", "c"],
        powerset_max_classes=2,
        permutation_invariant=True,
    )
    model.build()
    if like is not None:
        weights, members = dict(like.state_dict()), Powerset(3, 2).mapping
        for name in ("classifier.weight", "classifier.bias"):
            weights[name] = members @ weights[name]
        model.load_state_dict(weights)
    return model.eval()


def resnet34(seed: int = 0) -> WeSpeakerResNet34:
    """Build WeSpeaker's ResNet34 with random weights."""
    torch.manual_seed(seed)
    model = WeSpeakerResNet34()
    model.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0
    )
    return model.eval()


class SmallEmbedding(Model):  # type: ignore[misc]  # pyannote ships no types
    """An embedding that costs nothing, pooled as WeSpeaker's is."""

    def __init__(self, sample_rate: int = 16000, num_channels: int = 1, task: Any = None) -> None:
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.trunk = nn.Conv1d(1, 16, 800, 400)
        self.head = nn.Linear(32, DIMENSION)
        self.specifications = Specifications(
            problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0
        )
        self.seen = 0

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return DIMENSION

    def forward(self, waveforms: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Embed windows, (batch, 1, samples), under one mask each or several."""
        from pyannote.audio.models.blocks.pooling import StatsPool

        self.seen += len(waveforms)
        found: torch.Tensor = self.head(StatsPool()(torch.relu(self.trunk(waveforms)), weights))
        return found


def small_embedding(seed: int = 0) -> SmallEmbedding:
    """Build the cheap embedding with random weights."""
    torch.manual_seed(seed)
    return SmallEmbedding().eval()


def random_plda(folder: Path, seed: int = 0) -> PLDA:
    """Build a PLDA of community-1's shape: rotations, and variances that fall off."""
    rng = np.random.default_rng(seed)
    lda, _ = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))
    turn, _ = np.linalg.qr(rng.normal(size=(LDA, LDA)))
    folder.mkdir(parents=True, exist_ok=True)
    transform, plda = folder / "xvec_transform.npz", folder / "plda.npz"
    np.savez(transform, mean1=np.zeros(DIMENSION), mean2=np.zeros(LDA), lda=lda[:, :LDA])
    np.savez(plda, mu=np.zeros(LDA), tr=turn, psi=np.linspace(5, 0.1, LDA))
    return PLDA(transform, plda)


def community(folder: Path, segmentation: Model, embedding: Model) -> DiarizationPipeline:
    """Put a pipeline together with community-1's clustering and parameters.

    Args:
        folder: Gets the PLDA's files.
        segmentation: See `powerset_segmentation`.
        embedding: See `resnet34`.
    """
    pipeline = SpeakerDiarization(
        segmentation=segmentation,
        embedding=embedding,
        plda=random_plda(folder),
        clustering="VBxClustering",
        segmentation_batch_size=32,
        embedding_batch_size=32,
        embedding_exclude_overlap=True,
    )
    pipeline.instantiate(
        {
            "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
            "segmentation": {"min_duration_off": 0.0},
        }
    )
    loaded = DiarizationPipeline.__new__(DiarizationPipeline)  # whose __init__ wants a folder
    loaded.model = pipeline
    return loaded


def telephone_sample() -> npt.NDArray[np.int16]:
    """Read pyannote's sample: 30 s of a telephone conversation of two people."""
    package = find_spec("pyannote.audio")
    assert package is not None
    assert package.origin is not None
    with wave.open(str(Path(package.origin).parent / "sample" / "sample.wav")) as sound:
        return np.frombuffer(sound.readframes(sound.getnframes()), np.int16)

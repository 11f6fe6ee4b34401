"""Diarization without its weights: community-1's architecture, and scores drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
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
from pyannote.core import SlidingWindow, SlidingWindowFeature
from torch import nn
from whisperx.diarize import DiarizationPipeline

from worker.engines.diarization.activity import Activity, ActivityRecorder
from worker.engines.segmentation import FrameGrid, WindowGrid

DIMENSION, LDA = 256, 128
FRAME = SlidingWindow(duration=0.0619375, step=0.016875)
"""The receptive field of every PyanNet."""


def powerset_segmentation(like: Model | None = None) -> PyanNet:
    """Build a PyanNet for 10 s and sets of up to two of three speakers, as in community-1.

    Args:
        like: A multi-label PyanNet whose weights it gets: the score of a set is the sum of its
            members' logits, so it finds speakers where that one does. Without it: random weights.
    """
    torch.manual_seed(0)
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


def resnet34() -> WeSpeakerResNet34:
    """Build WeSpeaker's ResNet34 with random weights."""
    torch.manual_seed(0)
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


def small_embedding() -> SmallEmbedding:
    """Build the cheap embedding with random weights."""
    torch.manual_seed(0)
    return SmallEmbedding().eval()


def random_plda(folder: Path) -> PLDA:
    """Build a PLDA of community-1's shape: rotations, and variances that fall off."""
    rng = np.random.default_rng(0)
    lda, _ = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))
    turn, _ = np.linalg.qr(rng.normal(size=(LDA, LDA)))
    folder.mkdir(parents=True, exist_ok=True)
    transform, plda = folder / "xvec_transform.npz", folder / "plda.npz"
    np.savez(transform, mean1=np.zeros(DIMENSION), mean2=np.zeros(LDA), lda=lda[:, :LDA])
    np.savez(plda, mu=np.zeros(LDA), tr=turn, psi=np.linspace(5, 0.1, LDA))
    return PLDA(transform, plda)


def community(folder: Path, segmentation: Model, embedding: Model) -> DiarizationPipeline:
    """Put a pipeline together with community-1's clustering and parameters; PLDA in a folder."""
    pipeline = SpeakerDiarization(
        segmentation=segmentation,
        embedding=embedding,
        plda=random_plda(folder),
        clustering="VBxClustering",
        segmentation_batch_size=32,
        embedding_batch_size=32,
        embedding_exclude_overlap=True,
    )
    clustering = {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8}
    pipeline.instantiate({"clustering": clustering, "segmentation": {"min_duration_off": 0.0}})
    loaded = DiarizationPipeline.__new__(DiarizationPipeline)  # whose __init__ wants a folder
    loaded.model = pipeline
    return loaded


@dataclass(frozen=True)
class StandIn:
    """Has what a `Segmenter` has, beside a model."""

    grid: WindowGrid = WindowGrid(5.0, 0.5)
    frames: FrameGrid = FrameGrid(FRAME.duration, FRAME.step)
    is_powerset: bool = False

    def feature(self, scores: npt.NDArray[np.generic]) -> SlidingWindowFeature:
        """Scores as pyannote hands them on; a copy, because it writes into them."""
        windows = SlidingWindow(start=0.0, duration=self.grid.duration_s, step=self.grid.step_s)
        return SlidingWindowFeature(scores.copy(), windows)


def smooth_scores(
    seed: int, n_windows: int, n_frames: int = 293, n_speakers: int = 3, steps: int = 40
) -> npt.NDArray[np.float32]:
    """Draw scores that go up and down as speech does, in [0, 1], (windows, frames, speakers)."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(0, 1.5, (n_windows, n_frames // steps + 2, n_speakers))
    fine = np.repeat(knots, steps, axis=1)[:, :n_frames]
    noisy = fine + rng.normal(0, 0.3, fine.shape)
    scores: npt.NDArray[np.float32] = (1 / (1 + np.exp(-noisy))).astype(np.float32)
    return scores


def activity_of(scores: npt.NDArray[np.float32], stand_in: StandIn, threshold: float) -> Activity:
    """Record scores in three parts."""
    kept = None if stand_in.is_powerset else threshold
    recorder = ActivityRecorder(stand_in, kept)  # type: ignore[arg-type]
    for part in np.array_split(scores, 3):
        if len(part):
            recorder.add(part)
    return recorder.activity()

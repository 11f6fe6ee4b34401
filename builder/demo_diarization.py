"""The demo profile's speaker diarization, as a folder that `pyannote.audio` loads.

Takes whisperx's segmentation checkpoint, and resemblyzer's GE2E weights or 3D-Speaker's CAM++;
writes `config.yaml`, `segmentation/`, `embedding/` and `plda/`. How the parameters were chosen is
in `builder/README.md`.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.audio.core.task import Problem, Resolution, Specifications

CONFIG = """\
pipeline:
  name: pyannote.audio.pipelines.SpeakerDiarization
  params:
    clustering: {kind}
    segmentation: $model/segmentation
    embedding: $model/embedding
    plda: $model/plda
    segmentation_batch_size: 32
    embedding_batch_size: 32
    embedding_exclude_overlap: true
params:
  clustering: {{{clustering}}}
  segmentation: {{{segmentation}}}
"""


@dataclass(frozen=True)
class Demo:
    """An embedding network and how its vectors are clustered.

    Attributes:
        architecture: The class of the worker that the checkpoint names.
        dimension: Of a vector.
        window_s: What the network was trained on.
        clustering: pyannote's parameters, as YAML.
    """

    architecture: str
    dimension: int
    window_s: float
    clustering: str


DEMOS = {
    "ge2e-centroid": Demo(
        "worker.models.ge2e.GE2EEmbedding",
        256,
        1.6,
        "method: centroid, threshold: 0.5, min_cluster_size: 12",
    ),
    "campplus-average": Demo(
        "worker.models.campplus.CamPlusPlusEmbedding",
        192,
        3.0,
        "method: average, threshold: 0.4, min_cluster_size: 12",
    ),
}
"""By the model's name in `models.toml`."""


def write_pipeline(
    folder: Path, config: str, lda: NDArray[np.float64], psi: NDArray[np.float64]
) -> None:
    """Write `config.yaml`, and PLDA matrices without means.

    Args:
        folder: Of the pipeline.
        config: Made of `CONFIG`.
        lda: Shape (n_embedding, n_plda).
        psi: Shape (n_plda,), variances between speakers.
    """
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    plda = folder / "plda"
    plda.mkdir(exist_ok=True)
    before, after = (np.zeros(size) for size in lda.shape)
    np.savez(plda / "xvec_transform.npz", mean1=before, mean2=after, lda=lda)
    np.savez(plda / "plda.npz", mu=after, tr=np.eye(len(psi)), psi=psi)


def write_demo(folder: Path, name: str, weights: Path, target: Path) -> None:
    """Write all of a pipeline but its segmentation.

    Args:
        folder: Of the pipeline; its PLDA is one that agglomeration does not use.
        name: One of `DEMOS`.
        weights: resemblyzer's `pretrained.pt`, whose optimizer state and loss scale are left out,
            or 3D-Speaker's, which is the network alone.
        target: The checkpoint of the embedding to write.
    """
    demo = DEMOS[name]
    config = CONFIG.format(
        kind="AgglomerativeClustering",
        clustering=demo.clustering,
        segmentation="threshold: 0.5, min_duration_off: 0.0",
    )
    write_pipeline(folder, config, np.eye(demo.dimension), np.ones(demo.dimension))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    parts = ("lstm.", "linear.", "head.", "xvector.")
    network = {k: v for k, v in state.get("model_state", state).items() if k.startswith(parts)}
    parameters = {"sample_rate": 16000, "num_channels": 1}
    specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=demo.window_s
    )
    write_checkpoint(target, network, parameters, demo.architecture, specifications)


def write_checkpoint(
    target: Path, state: Any, parameters: Any, architecture: str, specifications: Specifications
) -> None:
    """Write weights with what pyannote.audio and lightning want to find beside them."""
    module, _, name = architecture.rpartition(".")
    checkpoint = {
        "state_dict": state,
        "hyper_parameters": parameters,
        "pytorch-lightning_version": version("lightning"),
        "pyannote.audio": {
            "versions": {"pyannote.audio": version("pyannote.audio")},
            "architecture": {"module": module, "class": name},
            "specifications": specifications,
        },
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, target)
